//! Serves a fake until standard input ends: `immutable-azure-fake [PORT [RESOURCES.json]]`.
//!
//! The file has the resources that are there from the beginning, by their ids from their types on:
//! `{"Microsoft.Network/loadBalancers/web": {…}}`. The address is printed when it is served. At the end the violations are
//! printed; the exit status says whether there were any.

use std::io::{self, Write};
use std::process::ExitCode;
use std::{env, fs};

use immutable_azure_fake::{Fake, Options};
use serde_json::{Map, Value};

fn main() -> ExitCode {
    match serve() {
        Ok(violations) if violations.is_empty() => ExitCode::SUCCESS,
        Ok(violations) => say(&mut io::stderr(), &violations.join("\n")),
        Err(why) => say(&mut io::stderr(), &why),
    }
}

fn serve() -> Result<Vec<String>, String> {
    let mut arguments = env::args().skip(1);
    let port = arguments.next().map_or(Ok(0), |port| port.parse()).map_err(|error| format!("no port: {error}"))?;
    let fake = Fake::serve(Options::default(), port)?;
    if let Some(file) = arguments.next() {
        let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let resources: Map<String, Value> = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        for (id, resource) in resources {
            fake.put(&id, resource);
        }
    }
    say(&mut io::stdout(), &fake.url());
    io::copy(&mut io::stdin(), &mut io::sink()).map_err(|error| error.to_string())?;
    Ok(fake.take_violations())
}

/// Nobody may be there to read it.
fn say(to: &mut impl Write, text: &str) -> ExitCode {
    let _ = writeln!(to, "{text}");
    ExitCode::FAILURE
}
