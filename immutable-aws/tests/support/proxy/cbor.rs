//! `CloudWatch` is spoken to in CBOR, which moto does not understand: the same in JSON, which it does.
//!
//! As much of [RFC 8949](https://www.rfc-editor.org/rfc/rfc8949) as
//! [the protocol](https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html) uses.

use bytes::Bytes;
use hyper::http::{HeaderValue, Method, Uri};
use serde_json::{Map, Number, Value};

use super::call::{Answer, Call};

const CBOR: HeaderValue = HeaderValue::from_static("application/cbor");

pub(super) fn is_spoken(call: &Call) -> bool {
    call.parts.headers.get("content-type") == Some(&CBOR)
}

/// The same request in JSON.
pub(super) fn to_json(call: &Call) -> Call {
    let mut rest = &call.body[..];
    let value = if rest.is_empty() { Value::Object(Map::new()) } else { read(&mut rest).unwrap_or(Value::Null) };
    let body: Bytes = value.to_string().into();
    let mut parts = call.parts.clone();
    parts.method = Method::POST;
    parts.uri = Uri::from_static("/");
    let target = format!("GraniteServiceVersion20100801.{}", call.action);
    let headers = &mut parts.headers;
    headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.0"));
    headers.insert("x-amz-target", HeaderValue::from_str(&target).unwrap());
    headers.insert("content-length", HeaderValue::from(body.len()));
    headers.remove("smithy-protocol");
    Call::new(parts, body)
}

/// The same answer in CBOR.
pub(super) fn from_json(mut answer: Answer) -> Answer {
    let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Object(Map::new()));
    let mut body = Vec::new();
    write(&value, "", &mut body);
    answer.body = body.into();
    answer.headers.insert("content-type", CBOR);
    answer.headers.insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
    answer
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

#[expect(clippy::option_option, reason = "an open length is no error")]
/// The number in or after the first byte of a thing; none if its length is open.
fn argument(rest: &mut &[u8], info: u8) -> Option<Option<u64>> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    match info {
        0..=23 => Some(Some(u64::from(info))),
        24..=27 => Some(Some(number(take(rest, 1 << (info - 24))?))),
        31 => Some(None),
        _ => None,
    }
}

fn read(rest: &mut &[u8]) -> Option<Value> {
    let first = take(rest, 1)?[0];
    let (major, info) = (first >> 5, first & 31);
    let number = argument(rest, info)?;
    Some(match (major, number) {
        (0, Some(number)) => number.into(),
        (1, Some(number)) => (-1 - i64::try_from(number).ok()?).into(),
        (2 | 3, Some(length)) => String::from_utf8_lossy(take(rest, usize::try_from(length).ok()?)?).into(),
        (4, length) => Value::Array(items(rest, length, read)?),
        (5, length) => {
            let pair = |rest: &mut &[u8]| Some((read(rest)?.as_str()?.to_owned(), read(rest)?));
            Value::Object(items(rest, length, pair)?.into_iter().collect())
        }
        // The only tag is that of a time, which is a number in JSON.
        (6, Some(_)) => read(rest)?,
        (7, Some(bits)) => simple(info, bits)?,
        _ => return None,
    })
}

fn items<T>(rest: &mut &[u8], length: Option<u64>, item: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    const BREAK: u8 = 0xff;
    let mut items = Vec::new();
    while length.map_or_else(|| rest.first() != Some(&BREAK), |length| (items.len() as u64) < length) {
        items.push(item(rest)?);
    }
    if length.is_none() {
        take(rest, 1)?;
    }
    Some(items)
}

fn simple(info: u8, bits: u64) -> Option<Value> {
    let float = |number: f64| Number::from_f64(number).map(Value::Number);
    match info {
        20 => Some(false.into()),
        21 => Some(true.into()),
        22 | 23 => Some(Value::Null),
        26 => float(f64::from(f32::from_bits(u32::try_from(bits).ok()?))),
        27 => float(f64::from_bits(bits)),
        _ => None,
    }
}

fn head(major: u8, number: u64, out: &mut Vec<u8>) {
    out.push(major << 5 | 0x1b);
    out.extend(number.to_be_bytes());
}

/// `name` is the member that the value is of: what is a time is only known by it.
fn write(value: &Value, name: &str, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(is_so) => out.push(0xf4 + u8::from(*is_so)),
        Value::Number(number) => {
            if name == "Timestamps" || name == "Timestamp" {
                out.push(0xc1);
            }
            out.push(0xfb);
            out.extend(number.as_f64().unwrap_or_default().to_be_bytes());
        }
        Value::String(text) => {
            head(3, text.len() as u64, out);
            out.extend(text.as_bytes());
        }
        Value::Array(items) => {
            head(4, items.len() as u64, out);
            for item in items {
                write(item, name, out);
            }
        }
        Value::Object(members) => {
            head(5, members.len() as u64, out);
            for (name, member) in members {
                write(&Value::from(name.as_str()), "", out);
                write(member, name, out);
            }
        }
    }
}
