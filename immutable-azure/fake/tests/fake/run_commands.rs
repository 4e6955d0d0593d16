//! Scripts on machines.

use std::time::Duration;

use immutable_azure_fake::{Fake, Options, Ran};
use serde_json::{Value, json};

use crate::client::{ask, quick, read, send, status};
use crate::images::{BUILDER, builder};

const HOUR: Duration = Duration::from_hours(1);
const COMMAND: &str = "Microsoft.Compute/virtualMachines/builder/runCommands/build";

/// A fake with a machine that runs, on which scripts take an hour.
async fn workshop() -> Fake {
    let fake = Fake::start(Options { run_time: HOUR, second: Duration::from_secs(1), ..quick() });
    ask(&fake, "PUT", BUILDER, Some(builder("Delete"))).await;
    fake.skip(HOUR);
    fake
}

fn command(is_async: bool, limit: u32) -> Value {
    json!({
        "location": "westeurope",
        "properties": {
            "asyncExecution": is_async,
            "timeoutInSeconds": limit,
            "source": { "script": "echo nonce" },
            "protectedParameters": [{ "name": "a", "value": "secret" }],
        },
    })
}

async fn view(fake: &Fake) -> Value {
    read(fake, &format!("{COMMAND}?$expand=instanceView")).await["properties"]["instanceView"].clone()
}

#[tokio::test]
async fn a_script_says_what_the_test_has_it_say() {
    for (is_async, before) in [(true, "Succeeded"), (false, "InProgress")] {
        let fake = workshop().await;
        fake.on_run_command(|machine, script| {
            let output = format!("{}: {script}", machine["name"].as_str().unwrap());
            Some(Ran { exit_code: 3, output, error: "x".repeat(5000), ..Ran::default() })
        });
        let put = ask(&fake, "PUT", COMMAND, Some(command(is_async, 7200))).await;
        assert_eq!((put.status, put.body["properties"].get("protectedParameters")), (201, None));
        assert_eq!(status(&fake, &put).await["status"], before, "asynchronous: {is_async}");
        assert_eq!(view(&fake).await["executionState"], "Running");
        fake.skip(HOUR);
        assert_eq!(status(&fake, &put).await["status"], "Succeeded");
        let view = view(&fake).await;
        assert_eq!((&view["executionState"], &view["exitCode"]), (&json!("Failed"), &json!(3)));
        assert_eq!(view["output"], "builder: echo nonce");
        assert_eq!(view["error"].as_str().unwrap().len(), 4096);
    }
}

#[tokio::test]
async fn a_script_ends_by_itself_or_by_its_limit_or_never() {
    let fake = workshop().await;
    ask(&fake, "PUT", COMMAND, Some(command(true, 7200))).await;
    fake.skip(HOUR);
    assert_eq!(view(&fake).await["executionState"], "Succeeded");
    ask(&fake, "PUT", COMMAND, Some(command(true, 60))).await;
    fake.skip(Duration::from_mins(1));
    assert_eq!(view(&fake).await["executionState"], "TimedOut");
    ask(&fake, "PUT", COMMAND, Some(command(true, 7200))).await;
    fake.kill(BUILDER);
    fake.skip(HOUR * 24);
    assert_eq!(view(&fake).await["executionState"], "Running", "nobody is there to say otherwise");
}

#[tokio::test]
async fn a_script_can_switch_its_machine_off() {
    let fake = workshop().await;
    fake.on_run_command(|_, _| Some(Ran { off: true, ..Ran::default() }));
    ask(&fake, "PUT", COMMAND, Some(command(true, 7200))).await;
    fake.skip(HOUR);
    assert_eq!(view(&fake).await["executionState"], "Succeeded");
    assert_eq!(read(&fake, &format!("{BUILDER}/instanceView")).await["statuses"][1]["code"], "PowerState/stopped");
}

#[tokio::test]
async fn scripts_need_machines_that_run_and_go_with_them() {
    let fake = workshop().await;
    ask(&fake, "PUT", COMMAND, Some(command(true, 60))).await;
    ask(&fake, "POST", &format!("{BUILDER}/deallocate"), None).await;
    let off = send(&fake, "PUT", COMMAND, Some(command(true, 60))).await;
    assert_eq!(off.code(), (409, "OperationNotAllowed"));
    ask(&fake, "DELETE", BUILDER, None).await;
    fake.skip(HOUR);
    assert_eq!(send(&fake, "GET", COMMAND, None).await.status, 404);
    assert_eq!(send(&fake, "PUT", COMMAND, Some(command(true, 60))).await.code(), (404, "ResourceNotFound"));
    assert_eq!(ask(&fake, "DELETE", COMMAND, None).await.status, 204);
}
