//! The dashboard and the alerts speak of what a daemon really exports, and say it so that Prometheus understands: by the
//! judgement of its own promtool, and by the metrics of a site with a run behind it.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::eventually;
use support::lab::{Lab, fqdn};
use support::raw;

/// By metric, the labels that its samples have, with their values.
type Exported = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(file("packaging/grafana/puppet-shim.json")).unwrap()).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

/// What the dashboard asks Prometheus for, by the panel's title.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let targets = panels(dashboard).iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        targets.iter().map(|target| (text(&panel["title"]), text(&target["expr"])))
    });
    targets.collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The `expr` of each rule: a folded block (`>-`) or one line.
fn rules() -> Vec<String> {
    let text = fs::read_to_string(file("packaging/prometheus/puppet-shim.rules.yml")).unwrap();
    let expressions = text.split("\n        expr: ").skip(1);
    expressions.map(|rest| rest.split("\n        for: ").next().unwrap().replace(">-\n", " ")).collect()
}

fn promtool(args: &[&str], path: &Path) -> String {
    let output = Command::new("promtool").args(args).arg(path).output();
    let output = output.expect("promtool is needed to judge rules: apt install prometheus");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// All that a site exports where every role was used, one server is down and one is pinned.
async fn exported() -> Exported {
    let mut lab = Lab::start().await;
    let agent = lab.agent("agent01.lab.test");
    for (name, port) in [("puppetca", 8140), ("puppet", 8140), ("puppetfiles", 8140), ("puppetreport", 8140)] {
        agent.get(&fqdn(name), port, "/puppet/v3/status").await.unwrap();
    }
    lab.compile1.stop().await;
    agent.get(&fqdn("puppet"), 8140, "/puppet/v3/status").await.unwrap();
    eventually("every connection has had its line", || lab.journal.lines().len() == 5).await;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", lab.shim());
    let reply = raw::exchange(lab.shim(), &[request.as_bytes()]).await.unwrap();
    let answer = String::from_utf8(reply.bytes).unwrap();
    let mut exported = Exported::new();
    for line in answer.split("\r\n\r\n").nth(1).unwrap().lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let known = exported.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap();
            known.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    exported
}

/// Each metric in an expression, with what is between the braces behind it.
fn metrics(expression: &str) -> Vec<(String, String)> {
    let parts = expression.match_indices("puppet_shim_").map(|(at, _)| {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let matchers = rest[end..].strip_prefix('{').map_or("", |rest| rest.split('}').next().unwrap());
        (rest[..end].to_owned(), matchers.to_owned())
    });
    parts.collect()
}

fn assert_exported(expression: &str, exported: &Exported) {
    let found = metrics(expression);
    assert!(!found.is_empty(), "{expression} asks for nothing of ours");
    for (name, matchers) in found {
        let labels = exported.get(&name).unwrap_or_else(|| panic!("{name} is not exported: {expression}"));
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once("=~").or_else(|| matcher.split_once('=')).unwrap();
            // Those are Prometheus' own, and the dashboard's to choose.
            if label == "instance" {
                continue;
            }
            let values = labels.get(label).unwrap_or_else(|| panic!("{name} has no label {label}: {expression}"));
            for value in value.trim_matches('"').split('|').filter(|value| !value.starts_with('$')) {
                assert!(values.contains(value), "{name} has no {label}={value}, but {values:?}: {expression}");
            }
        }
    }
    // What is grouped by has to be there, too.
    for grouping in expression.split(" by (").skip(1) {
        for label in grouping.split(')').next().unwrap().split(',').map(str::trim) {
            let known = metrics(expression).iter().any(|(name, _)| exported[name].contains_key(label));
            assert!(known || ["job", "instance"].contains(&label), "nothing has the label {label}: {expression}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_for_is_exported_and_what_is_exported_is_shown() {
    let exported = exported().await;
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    for (_, expression) in &queries {
        assert_exported(expression, &exported);
    }
    let rules = rules();
    assert!(rules.len() > 8, "{rules:?}");
    for expression in &rules {
        assert_exported(expression, &exported);
    }
    let shown: BTreeSet<_> = queries.iter().flat_map(|(_, query)| metrics(query)).map(|(name, _)| name).collect();
    let unseen: Vec<_> = exported.keys().filter(|name| !shown.contains(*name)).collect();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
}

#[test]
fn rules_are_valid_and_fire_when_they_should() {
    let path = file("packaging/prometheus/puppet-shim.rules.yml");
    assert!(promtool(&["check", "rules"], &path).contains("SUCCESS"));
    assert!(promtool(&["test", "rules"], &file("tests/dashboards/rules.test.yml")).contains("SUCCESS"));
    let (rules, tests) =
        (fs::read_to_string(path).unwrap(), fs::read_to_string(file("tests/dashboards/rules.test.yml")).unwrap());
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    for alert in &alerts {
        assert!(tests.contains(&format!("- alertname: {alert}\n")), "{alert} is not seen to fire");
        assert!(tests.contains(&format!("{{alertname: {alert}, ")), "{alert} is not seen to be quiet");
    }
    for field in ["severity: ", "summary: ", "description: "] {
        let count = rules.lines().filter(|line| line.trim().starts_with(field)).count();
        assert_eq!(count, alerts.len(), "{field}");
    }
}

/// Each query is one that Prometheus can read: as a rule that records it.
#[test]
fn queries_are_valid() {
    let queries = queries(&dashboard());
    assert!(queries.len() > 20);
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(nth, (title, expression))| {
            let expression =
                expression.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$role", ".*");
            assert!(!expression.contains('$'), "{title}: {expression}");
            json!({ "record": format!("query:{nth}"), "expr": expression })
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.yml");
    // JSON is YAML, too.
    fs::write(&path, json!({ "groups": [{ "name": "queries", "rules": rules }] }).to_string()).unwrap();
    let said = promtool(&["check", "rules"], &path);
    assert!(said.contains(&format!("{} rules found", queries.len())), "{said}");
}

/// As Grafana takes it in: each panel has its own number and place, and a data source that can be chosen.
#[test]
fn the_dashboard_holds_together() {
    let dashboard = dashboard();
    let panels = panels(&dashboard);
    let mut numbers = BTreeSet::new();
    let mut places: Vec<[u64; 4]> = Vec::new();
    for panel in panels {
        let title = text(&panel["title"]);
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{title}: its number is another's");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + width <= 24, "{title}");
        for [other_x, other_y, other_width, other_height] in &places {
            let beside = x + width <= *other_x || other_x + other_width <= x;
            assert!(beside || y + height <= *other_y || other_y + other_height <= y, "{title} lies on another");
        }
        places.push([x, y, width, height]);
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let variables: Vec<_> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|variable| text(&variable["name"])).collect();
    assert_eq!(variables, ["datasource", "instance", "role"]);
}
