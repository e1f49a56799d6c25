//! The page. No io.
//!
//! maud writes it, and escapes what comes from elsewhere: names out of DNS and out of what clients ask for.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::span::{Count, Span, ago, many};
use super::{Response, STYLE, STYLE_HASH, recent, roles};
use crate::moment::Moment;
use crate::status::{
    ConfigurationOrigin, ConfigurationStatus, ListenerState, ListenerStatus, Problem, ProblemSeverity, Status,
};

/// How often a page may load itself anew, in seconds.
const REFRESH: std::ops::RangeInclusive<u32> = 1..=3600;

/// How often it is offered to.
const OFFERED: u32 = 5;

/// How it stands in one word and one sentence.
struct Verdict {
    class: &'static str,
    /// By its shape, where colours do not tell.
    mark: &'static str,
    word: String,
    sentence: String,
}

/// Out of `refresh=5`, after how many seconds the page is to be loaded again.
pub(super) fn refresh(query: &str) -> Option<u32> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("refresh="))?;
    value.parse().ok().filter(|seconds| REFRESH.contains(seconds))
}

/// The whole page.
pub(super) fn page(status: &Status, refresh: Option<u32>) -> Response {
    let policy = format!(
        "default-src 'none'; style-src '{STYLE_HASH}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let text = document(status, refresh).into_string();
    Response::new(200, "text/html; charset=utf-8", text).with("Content-Security-Policy", policy)
}

fn document(status: &Status, refresh: Option<u32>) -> Markup {
    let verdict = Verdict::of(status);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { (verdict.mark) " puppet-shim: " (verdict.word) }
                link rel="icon" href=(icon(verdict.class));
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(status, &verdict))
                main {
                    @if !status.problems.is_empty() { (problems(&status.problems)) }
                    section aria-labelledby="roles" {
                        h2 id="roles" { "Roles" }
                        (roles::legend())
                        @for role in &status.roles { (roles::role(status, role)) }
                    }
                    (recent::recent(status))
                    (configuration(&status.configuration, status.at))
                }
                (footer(status, refresh))
            }
        }
    }
}

impl Verdict {
    fn of(status: &Status) -> Self {
        let count = |severity| status.problems.iter().filter(|problem| problem.severity == severity).count();
        let (errors, warnings) = (count(ProblemSeverity::Error), count(ProblemSeverity::Warning));
        let carried: u64 = status.roles.iter().map(|role| role.totals.carried).sum();
        let known: usize = status.roles.iter().map(|r| r.servers.iter().filter(|s| s.is_current).count()).sum();
        if errors > 0 {
            let also = if warnings > 0 { format!(", and {}", many(warnings, "warning")) } else { String::new() };
            return Verdict {
                class: "error",
                mark: "\u{2716}",
                word: format!("{}{also}", many(errors, "fault")),
                sentence: "Somebody has to do something; what, is written below.".into(),
            };
        }
        if warnings > 0 {
            return Verdict {
                class: "warning",
                mark: "\u{26a0}",
                word: many(warnings, "warning"),
                sentence: "Agents are served all the same.".into(),
            };
        }
        let sentence = match (known, carried) {
            (0, 0) => "Nobody has connected yet, and nothing is against it.".to_owned(),
            (_, 0) => format!("No server is known to be in trouble, of {known}."),
            (_, 1) => format!("1 connection carried, and nothing is against any of {}.", many(known, "server")),
            _ => format!(
                "{} connections carried, and nothing is against any of {}.",
                Count(carried),
                many(known, "server")
            ),
        };
        Verdict { class: "good", mark: "\u{2714}", word: "all is well".into(), sentence }
    }
}

/// A disc in the colour of how it stands.
fn icon(class: &str) -> String {
    let colour = match class {
        "error" => "c4281c",
        "warning" => "b87000",
        _ => "1a7f37",
    };
    format!(
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23{colour}'/%3E%3C/svg%3E"
    )
}

fn header(status: &Status, verdict: &Verdict) -> Markup {
    html! {
        header class=(verdict.class) {
            div class="verdict" {
                span class="mark" aria-hidden="true" { (verdict.mark) }
                div {
                    h1 { span class="product" { "puppet-shim" } " " span class="word" { (verdict.word) } }
                    p { (verdict.sentence) }
                }
            }
            dl class="facts" {
                div { dt { "Listens on" } dd { (listeners(&status.listeners)) } }
                div {
                    dt { "Open" }
                    dd { (Count(status.connections_open)) " of " (Count(status.connections_limit)) " connections" }
                }
                div { dt { "Domain" } dd { (status.domain.as_deref().unwrap_or("none known")) } }
                @if let Some(process) = &status.process {
                    div {
                        dt { "Runs for" }
                        dd {
                            (Span(status.at.unix().saturating_sub(process.started.unix()))) ", process " (process.pid)
                            @if let Some(seconds) = process.idle_exit_seconds {
                                br;
                                small { "leaves after " (seconds) " s without an agent" }
                            }
                        }
                    }
                }
                div { dt { "Version" } dd { (status.version) } }
            }
        }
    }
}

fn listeners(listeners: &[ListenerStatus]) -> Markup {
    html! {
        @for (nth, listener) in listeners.iter().enumerate() {
            @if nth > 0 { br; }
            @match listener.state {
                ListenerState::Failed | ListenerState::Closed => { s { (listener.address) } " " span class="bad" { "not listening" } },
                ListenerState::Absent => { (listener.address) " (this host has no IPv6)" },
                ListenerState::Inherited | ListenerState::Bound | ListenerState::Waiting => { (listener.address) },
            }
        }
    }
}

fn problems(problems: &[Problem]) -> Markup {
    html! {
        section aria-labelledby="problems" {
            h2 id="problems" { "What is wrong" }
            ul class="problems" {
                @for problem in problems {
                    @let (class, word) = match problem.severity {
                        ProblemSeverity::Error => ("error", "fault"),
                        ProblemSeverity::Warning => ("warning", "warning"),
                    };
                    li class=(class) {
                        span class={ "badge " (class) } { (word) } " "
                        strong { (problem.about) } ": " (problem.message) "."
                        @if let Some(help) = &problem.help { p class="mend" { b { "Mend: " } (help) "." } }
                    }
                }
            }
        }
    }
}

fn configuration(configuration: &ConfigurationStatus, now: Moment) -> Markup {
    let origin = match configuration.origin {
        ConfigurationOrigin::File => "The file holds",
        ConfigurationOrigin::LastAccepted => "The last accepted one holds, since the file cannot be used",
        ConfigurationOrigin::Defaults => "The defaults hold: there is no file",
        ConfigurationOrigin::DefaultsInstead => "The defaults hold, since the file cannot be used",
    };
    html! {
        section aria-labelledby="configuration" {
            h2 id="configuration" { "Configuration" }
            p {
                (origin)
                @if let Some(file) = &configuration.file { ", " code { (file) } }
                @if let Some(read) = configuration.read { ", read " (when(read, now)) }
                "."
            }
            @if let Some(failed) = configuration.reload_failed {
                p class="bad" { "It was to be read again " (when(failed, now)) ", and could not be used." }
            }
            @for list in [&configuration.diagnostics, &configuration.reload_diagnostics] {
                @if !list.is_empty() { ul class="diagnostics" { @for line in list { li { (line) } } } }
            }
        }
    }
}

fn footer(status: &Status, refresh: Option<u32>) -> Markup {
    html! {
        footer {
            p {
                "As it was at " time datetime=(status.at) { (status.at) } ". "
                @match refresh {
                    Some(seconds) => { "Loaded anew every " (Span(u64::from(seconds))) ": " a href="/" { "stop that" } "." },
                    None => { a href={ "/?refresh=" (OFFERED) } { "Load it anew every " (OFFERED) " s" } "." },
                }
            }
            p {
                "The same " a href="/status" { "as JSON" } ", as " a href="/metrics" { "metrics" } " for Prometheus, and by "
                code { "puppet-shim status" } ". To look takes nothing from agents, and does not count as use."
            }
        }
    }
}

/// A moment as it is told, with the whole of it under the pointer.
pub(super) fn when(moment: Moment, now: Moment) -> Markup {
    html! { time datetime=(moment) title=(moment) { (ago(moment, now)) } }
}

/// A name that may be broken behind its dots and its colon, and hardly elsewhere.
pub(super) fn name(name: &str) -> Markup {
    let parts: Vec<_> = name.split_inclusive(['.', ':']).collect();
    html! { @for (nth, part) in parts.iter().enumerate() { @if nth > 0 { wbr; } (part) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_loaded_anew_as_often_as_asked_within_reason() {
        for (query, seconds) in [
            ("refresh=5", Some(5)),
            ("a=b&refresh=60", Some(60)),
            ("refresh=0", None),
            ("refresh=99999", None),
            ("", None),
        ] {
            assert_eq!(refresh(query), seconds, "{query}");
        }
        assert_eq!(refresh("refresh=5;url=http://evil.example"), None);
    }
}
