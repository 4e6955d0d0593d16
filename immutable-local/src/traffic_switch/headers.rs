//! Headers that belong to one connection, and those that a proxy adds.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Headers that are about one connection only (RFC 9110, section 7.6.1, and RFC 2616, section 13.5.1).
///
/// `Transfer-Encoding` is not among them: hyper reads and writes it, and needs it to know that a body follows.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// Headers that end where the message ends, whatever `Connection` names: without them the message would be another one.
const END_TO_END: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// Removes what must not be forwarded: the headers of the connection, and those that `Connection` names.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Adds the client's address to the list of those for whom the request was forwarded.
pub(super) fn append_forwarded_for(headers: &mut HeaderMap, client: &HeaderValue) {
    let mut list = Vec::new();
    for earlier in headers.get_all(FORWARDED_FOR) {
        list.extend_from_slice(earlier.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(client.as_bytes());
    // Joining valid values gives a valid one.
    let value = HeaderValue::from_bytes(&list).unwrap_or_else(|_| client.clone());
    headers.insert(FORWARDED_FOR, value);
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    names.filter(|name| !END_TO_END.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"))
        };
        let mut map = HeaderMap::new();
        for (name, value) in lines.iter().map(parse) {
            map.append(name, value);
        }
        map
    }

    fn check_strip(before: &[(&str, &str)], after: &[(&str, &str)]) {
        let mut map = headers(before);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(after));
    }

    #[test]
    fn headers_of_one_connection_are_removed_and_all_others_stay() {
        check_strip(
            &[
                ("host", "example.org"),
                ("connection", "close, X-One"),
                ("connection", "x-two"),
                ("x-one", "1"),
                ("x-two", "2"),
                ("x-three", "3"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "close"),
                ("proxy-authenticate", "Basic"),
                ("proxy-authorization", "Basic eA=="),
                ("te", "trailers"),
                ("trailer", "x-sum"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
            ],
            &[("host", "example.org"), ("x-three", "3"), ("transfer-encoding", "chunked")],
        );
    }

    #[test]
    fn connection_cannot_name_away_what_frames_the_message() {
        let framing = [("host", "a"), ("content-length", "3")];
        let named = [("connection", "host, content-length, transfer-encoding, , bad name")];
        check_strip(&[&framing[..], &named[..]].concat(), &framing);
    }

    #[test]
    fn the_client_is_appended_to_those_before_it() {
        let check = |before: &[(&str, &str)], expected: &str| {
            let mut map = headers(before);
            append_forwarded_for(&mut map, &HeaderValue::from_static("127.0.0.1"));
            let found: Vec<_> = map.get_all(FORWARDED_FOR).into_iter().collect();
            assert_eq!(found, [expected]);
        };
        check(&[], "127.0.0.1");
        check(
            &[("x-forwarded-for", "10.0.0.1, 10.0.0.2"), ("x-forwarded-for", "::1")],
            "10.0.0.1, 10.0.0.2, ::1, 127.0.0.1",
        );
    }
}
