//! The emulator itself: one process of moto for all tests of a program, ended with it.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A process of moto.
#[derive(Debug)]
pub(crate) struct Moto {
    address: SocketAddr,
    accounts: AtomicU64,
    /// Its standard input is a pipe to this program: it ends when the pipe is closed.
    _process: Child,
}

impl Moto {
    /// The one that the tests of this program share. Each has an account in it, so they do not see each other.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Moto> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One more, for what would touch all accounts.
    pub(crate) fn start() -> Self {
        let python = python();
        assert!(python.exists(), "there is no {}: run cargo xtask emulator", python.display());
        let mut command = Command::new(&python);
        command.arg(script("serve.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        // What it has to say in a log goes to nobody; an error is an answer.
        command.stderr(Stdio::null());
        for check in
            ["MOTO_ENABLE_AMI_VALIDATION", "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "MOTO_ENABLE_KEYPAIR_VALIDATION"]
        {
            command.env(check, "1");
        }
        // Hundreds of them, made anew in every account.
        command.env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false");
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port = port.trim().parse().unwrap_or_else(|_| panic!("moto did not start: run cargo xtask emulator"));
        Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            accounts: AtomicU64::new(100_000_000_001),
            _process: process,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the signatures and the permissions of all requests to this process are checked from now on.
    pub(crate) async fn enforce(&self, is_so: bool) {
        // The number of requests that are let through first.
        let body = if is_so { "0" } else { "inf" };
        let head = "POST /moto-api/reset-auth HTTP/1.1\r\nhost: moto\r\ncontent-type: text/plain\r\nconnection: close";
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// The id of an account that nobody else has.
    pub(crate) fn account(&self) -> String {
        self.accounts.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

/// The interpreter of the virtual environment that `cargo xtask emulator` makes.
pub(crate) fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("aws-emulator/bin/python")
}

/// A program in Python beside this file.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name)
}
