//! What a browser or a scraper on this host gets: the status as a page, as JSON, and as metrics.
//!
//! [`answer`] decides and [`Visit`] talks. Whoever asks has to be on this host and has to ask for it by a loopback name:
//! a page elsewhere whose name has been made to lead here (DNS rebinding) could read it otherwise.

mod accept;
mod drawing;
mod guard;
mod html;
mod recent;
mod request;
mod response;
mod roles;
mod span;
mod visit;
mod way;

use std::net::SocketAddr;

use crate::status::{Status, prometheus};

pub use self::request::Request;
pub use self::response::Response;
pub use self::visit::Visit;

/// The style of the page, and what names it in the page's policy: its SHA-256, base64.
const STYLE: &str = include_str!("page/style.css");
const STYLE_HASH: &str = "sha256-AexEtIVpN6CuCrlce9KFnM9b/ZuP1DwN0pxS0Ug7T5w=";

/// What there is.
const PATHS: &str = "/ (the page), /status (the same as JSON), /metrics (for Prometheus)";

/// What is said to one visitor too many.
pub const CROWDED: Response = Response::busy("too many are looking at this page; try again in a second\n");

/// The answer to a request from there. `status` is asked for where it is needed.
pub fn answer(request: &Request, from: SocketAddr, status: impl FnOnce() -> Status) -> Response {
    if let Err(why) = guard::admit(request, from) {
        return why.into();
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        let text = format!("{} is not for this page, which is only to be looked at: GET or HEAD", request.method);
        return Response::text(405, text).with("Allow", "GET, HEAD");
    }
    match request.path() {
        "/" => html::page(&status(), html::refresh(request.query())),
        "/status" => match serde_json::to_string_pretty(&status()) {
            Ok(json) => Response::new(200, "application/json", json + "\n"),
            Err(error) => Response::text(500, format!("the status cannot be written as JSON: {error}")),
        },
        "/metrics" if accept::prefers_openmetrics(&request.accept) => {
            Response::new(200, prometheus::OPENMETRICS_TYPE, prometheus::openmetrics(&status())).with("Vary", "Accept")
        }
        "/metrics" => Response::new(200, prometheus::TEXT_TYPE, prometheus::text(&status())).with("Vary", "Accept"),
        _ => Response::text(404, format!("there is nothing at this path; there is {PATHS}")),
    }
}

#[cfg(test)]
mod tests;
