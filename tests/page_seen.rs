//! The page as a browser shows it: of a real site with a fault in it, light and dark, from 400 to 1600 pixels wide,
//! without scripts. The browser has nothing to say against it, every letter is dark or light enough, nothing is cut off;
//! and a name that somebody has made to lead here does not get it.
//!
//! The pictures stay in `target/page`.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::command::{output, text};
use support::eventually;
use support::lab::{Lab, fqdn};
use support::shim::Bare;

/// What agents did: two runs, with the first compiler stopped for the second; and somebody who asked for something else.
async fn busy() -> Lab {
    // The browser's connections to be ready have a line when they are closed, and none before.
    let mut lab = Lab::with(|config| config.timeouts.sniff = Duration::from_secs(10 * 60)).await;
    let agent = lab.agent("agent01.lab.test");
    let get = async |name: &str, port| drop(agent.get(&fqdn(name), port, "/puppet/v3/status").await);
    for _ in 0..3 {
        get("puppetca", 8140).await;
        get("puppet", 8140).await;
        get("puppetfiles", 8140).await;
    }
    get("puppet", 8142).await;
    lab.compile1.stop().await;
    for _ in 0..4 {
        get("puppet", 8140).await;
    }
    get("www", 443).await;
    lab.report.stop().await;
    get("puppetreport", 8140).await;
    eventually("every connection has had its line", || lab.journal.lines().len() == 16).await;
    lab
}

async fn look(url: &str, rebound: &str, name: &str) -> Value {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("page").join(name);
    let mut command = Command::new("python3");
    command.arg("-IS").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/browser.py"));
    command.arg(&folder).args([url, rebound]);
    let output = output(command).await;
    assert!(output.status.success(), "is chromium there? apt install chromium\n{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What holds for every view.
fn assert_good(view: &Value, url: &str) {
    let what = format!("{} {}", view["scheme"], view["width"]);
    let none = Value::Array(Vec::new());
    assert_eq!(view["console"], none, "{what}");
    assert_eq!(view["requests"][0], url, "{what}");
    // Besides, its icon, which is in it.
    let others: Vec<_> = view["requests"].as_array().unwrap()[1..].iter().map(|r| r.as_str().unwrap()).collect();
    assert!(others.iter().all(|url| url.starts_with("data:")), "{what}: {others:?}");
    assert_eq!(view["overflow"], 0, "{what}: it is wider than its window");
    assert_eq!(view["faint"], none, "{what}");
    assert_eq!(view["spilt"], none, "{what}");
    assert!(view["seen"].as_u64().unwrap() > 20, "{what}");
    assert!(Path::new(view["picture"].as_str().unwrap()).exists());
}

#[tokio::test]
async fn a_site_with_faults() {
    let lab = busy().await;
    let port = lab.shim().port();
    let url = format!("http://127.0.0.1:{port}/");
    let seen = look(&url, &format!("http://rebound.example:{port}/"), "faults").await;
    let views = seen["views"].as_array().unwrap();
    assert_eq!(views.len(), 6);
    for view in views {
        assert_good(view, &url);
        let text = view["text"].as_str().unwrap();
        for word in
            ["fault", "no report server reachable: report.lab.test:", "Mend:", "compile2.lab.test:", "has the run"]
        {
            assert!(text.contains(word), "{word:?} is not in\n{text}");
        }
        // One drawing for each role, in the form for this width.
        let drawings: Vec<_> = view["drawings"].as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect();
        assert_eq!(drawings.len(), 4, "{drawings:?}");
        let compile = format!("compile1.lab.test:{}: 3 carried", lab.compile1.address().port());
        assert!(drawings[1].contains(&compile) && drawings[1].contains("tried in vain"), "{}", drawings[1]);
        let lines: Vec<_> = view["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        for class in ["carried", "refused", "vain"] {
            assert!(lines.iter().any(|line| line.starts_with(class) && line.contains("rgb(")), "{class}: {lines:?}");
        }
    }
    let backs: std::collections::BTreeSet<_> = views.iter().map(|view| view["back"].to_string()).collect();
    assert_eq!(backs.len(), 2, "light and dark: {backs:?}");
    assert_eq!(seen["rebound"]["statuses"][0], 403);
    let text = seen["rebound"]["text"].as_str().unwrap();
    assert!(text.starts_with("\"rebound.example:") && text.contains("only to be had as http://127.0.0.1"), "{text}");
    // To look is not in the log, and not among what is counted.
    // What has a line besides are connections that the browser made to be ready, and did not use.
    let lines: Vec<String> = lab.journal.lines().iter().map(ToString::to_string).collect();
    let others = lines.iter().filter(|line| !line.contains("the client closed after 0 bytes"));
    assert_eq!(others.count(), 16, "{lines:#?}");
}

#[tokio::test]
async fn a_site_that_nobody_has_used() {
    let bare = Bare::start().await;
    let port = bare.shim().port();
    let url = format!("http://127.0.0.1:{port}/");
    let seen = look(&url, &format!("http://rebound.example:{port}/"), "unused").await;
    for view in seen["views"].as_array().unwrap() {
        assert_good(view, &url);
        assert_eq!(view["title"], "\u{2714} puppet-shim: all is well");
        assert!(view["text"].as_str().unwrap().contains("Nobody has connected yet"));
    }
}
