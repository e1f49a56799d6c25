//! The last connections on the page. No io.

use maud::{Markup, html};

use super::html::{name, when};
use super::roles::dash;
use super::span::{Size, latency};
use crate::moment::Moment;
use crate::status::{Connection, Ending, Status};

/// The last connections, the newest first.
pub(super) fn recent(status: &Status) -> Markup {
    html! {
        section aria-labelledby="recent" {
            h2 id="recent" { "The last connections" }
            @if status.recent.is_empty() {
                p { "None has ended yet." }
            } @else {
                table class="recent" {
                    caption { "The last connections, the newest first" }
                    thead {
                        tr {
                            th scope="col" { "Ended" }
                            th scope="col" { "Role" }
                            th scope="col" { "Outcome" }
                            th scope="col" { "Asked for" }
                            th scope="col" { "Server" }
                            th scope="col" { "Took" }
                            th scope="col" { "Up / down" }
                            th scope="col" { "End" }
                        }
                    }
                    tbody { @for connection in &status.recent { (row(connection, status.at)) } }
                }
            }
        }
    }
}

fn row(connection: &Connection, now: Moment) -> Markup {
    let class = match connection.outcome {
        Ending::Carried => "good",
        Ending::Broken => "warning",
        Ending::Refused => "error",
    };
    // What one server did that got it at once is no news.
    let detours = connection.tried.as_deref().filter(|tried| tried.contains("; ") || connection.server.is_none());
    html! {
        tr class=(class) {
            th scope="row" { (when(connection.at, now)) }
            td data-label="Role" { @match &connection.role { Some(role) => (role), None => (dash()) } }
            td data-label="Outcome" { span class={ "badge " (class) } { (connection.outcome.as_str()) } }
            td data-label="Asked for" class="name-of" {
                @match &connection.asked { Some(asked) => (name(asked)), None => (dash()) }
                @if let Some(via) = &connection.via { small { " " (via) } }
            }
            td data-label="Server" class="name-of" {
                @match &connection.server { Some(server) => (name(server)), None => (dash()) }
                @if let Some(tried) = detours { p class="past" { (tried) } }
                @if let Some(dns) = &connection.dns { p class="past" { "DNS: " (dns) } }
            }
            td data-label="Took" class="number" { (latency(connection.duration_seconds)) }
            td data-label="Up / down" class="number" { (Size(connection.bytes_up)) " / " (Size(connection.bytes_down)) }
            td data-label="End" { (connection.end) }
        }
    }
}
