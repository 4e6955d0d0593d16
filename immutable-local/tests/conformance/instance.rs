//! The service that the instances run: this test program itself, because nothing else is certain to be there.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// The path of a request that is in flight until there is a file [`GO`].
pub(crate) const HOLD: &str = "/hold";
/// A file in the working directory of an instance that finishes the requests in flight.
pub(crate) const GO: &str = "go";
/// A file in the working directory of an instance that makes it ill.
pub(crate) const ILL: &str = "ill";

/// The script of an image whose instances are this program: the image of a program of this size would take longer to copy
/// than a clause takes to test.
pub(crate) const SCRIPT: &str = concat!(
    "exec \"$PROGRAM\" --exact --nocapture ",
    "instance::an_instance_answers_with_its_fleet_until_it_is_asked_to_stop"
);

#[test]
fn an_instance_answers_with_its_fleet_until_it_is_asked_to_stop() {
    if let Ok(fleet) = std::env::var("IMMUTABLE_FLEET") {
        serve(&fleet);
    }
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let work = tempfile::tempdir().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT]).current_dir(work.path()).stdout(std::process::Stdio::null());
    command.env("PROGRAM", std::env::current_exe().unwrap()).env("PORT", address.port().to_string());
    command.env("IMMUTABLE_FLEET", "web-1").env("IMMUTABLE_INSTANCE", "i-1");
    let mut process = command.spawn().unwrap();

    let begun = Instant::now();
    let mut answer = get(address, "/");
    while answer.is_none() && begun.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(5));
        answer = get(address, "/");
    }
    let answers = [answer, get(address, "/health"), ill(work.path(), address)];
    process.kill().unwrap();
    process.wait().unwrap();
    let status = |answer: &Option<String>| answer.as_ref().and_then(|answer| answer.get(9..12).map(str::to_owned));
    assert_eq!(answers.each_ref().map(status), ["200", "200", "503"].map(|status| Some(status.to_owned())));
    assert!(answers[0].as_ref().unwrap().ends_with("\r\n\r\nweb-1"), "{answers:?}");
}

fn ill(work: &Path, address: SocketAddr) -> Option<String> {
    std::fs::write(work.join(ILL), "").unwrap();
    get(address, "/health")
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    std::io::read_to_string(stream).ok()
}

fn serve(fleet: &str) -> ! {
    let (port, instance) = (std::env::var("PORT").unwrap(), std::env::var("IMMUTABLE_INSTANCE").unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse().unwrap())).unwrap();
    loop {
        let (fleet, instance) = (fleet.to_owned(), instance.clone());
        let stream = listener.accept().unwrap().0;
        // A connection ends when its client does, with an error or without.
        thread::spawn(move || answer_all(&stream, &fleet, &instance));
    }
}

/// Answers one request after another, none of which has a body.
fn answer_all(mut stream: &TcpStream, fleet: &str, instance: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(request) = lines.next().transpose()? {
        while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
        let (status, begin, end) = match request.split(' ').nth(1) {
            Some(HOLD) => ("200 OK", instance, "\ndone"),
            Some("/health") if Path::new(ILL).exists() => ("503 Service Unavailable", "ill", ""),
            _ => ("200 OK", fleet, ""),
        };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{begin}", begin.len() + end.len())?;
        while !end.is_empty() && !Path::new(GO).exists() {
            thread::sleep(Duration::from_millis(2));
        }
        stream.write_all(end.as_bytes())?;
    }
    Ok(())
}
