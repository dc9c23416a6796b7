//! The routes. Answers are JSON; a refusal has its own status and the words of `protocol::Refusal`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, extract::rejection::JsonRejection};
use futures::stream::{self, Stream};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::auth::Access;
use super::metrics;
use crate::protocol::{AgentMessage, Command, Intake, Link, Refusal};

/// Most bytes of an agent's message: a day of readings of a large host fits.
const MOST_MESSAGE_BYTES: usize = 64 << 20;

/// What the routes serve.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) access: Access,
    pub(super) link: Arc<dyn Link>,
    pub(super) intake: Option<Arc<dyn Intake>>,
    pub(super) stop: CancellationToken,
}

/// All routes.
pub(super) fn router(served: Served) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(prometheus))
        .route("/api/v1/snapshot", get(snapshot))
        .route("/api/v1/events", get(events))
        .route("/api/v1/command", post(command))
        .route("/api/v1/agent", post(agent))
        .layer(DefaultBodyLimit::max(MOST_MESSAGE_BYTES))
        .with_state(served)
}

/// A refusal as an HTTP answer.
struct Refused(Refusal);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Refusal::ReadOnly | Refusal::NotAllowed { .. } => StatusCode::FORBIDDEN,
            Refusal::NotFound { .. } => StatusCode::NOT_FOUND,
            Refusal::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::PlanChanged { .. } | Refusal::NotNow { .. } => StatusCode::CONFLICT,
            Refusal::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(self.0)).into_response()
    }
}

async fn health() -> &'static str {
    "ok\n"
}

async fn prometheus(State(served): State<Served>, headers: HeaderMap) -> Result<Response, Refused> {
    served.access.actor(&headers, "").map_err(Refused)?;
    let snapshot = served.link.snapshots().borrow().clone();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render(&snapshot)).into_response())
}

async fn snapshot(State(served): State<Served>, headers: HeaderMap) -> Result<Response, Refused> {
    served.access.actor(&headers, "").map_err(Refused)?;
    let snapshot = served.link.snapshots().borrow().clone();
    Ok(Json(&*snapshot).into_response())
}

async fn events(
    State(served): State<Served>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    served.access.actor(&headers, "").map_err(Refused)?;
    let mut receiver = served.link.snapshots();
    receiver.mark_changed();
    let stop = served.stop.clone();
    let events = stream::unfold((receiver, stop), |(mut receiver, stop)| async move {
        tokio::select! {
            () = stop.cancelled() => return None,
            changed = receiver.changed() => changed.ok()?,
        }
        let snapshot = receiver.borrow_and_update().clone();
        let json = serde_json::to_string(&*snapshot).ok()?;
        Some((Ok(Event::default().event("snapshot").data(json)), (receiver, stop)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(5)).text("still here")))
}

/// A command with the name of who asks.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    actor: String,
    command: Command,
}

async fn command(
    State(served): State<Served>,
    headers: HeaderMap,
    body: Result<Json<Asked>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(asked) = match body {
        Ok(body) => body,
        Err(rejection) => return Ok(bad_request(&rejection)),
    };
    let actor = served.access.actor(&headers, &asked.actor).map_err(Refused)?;
    let needed = asked.command.least_role();
    if actor.role < needed {
        return Err(Refused(Refusal::NotAllowed { needed }));
    }
    let reply = served.link.send(actor, asked.command).await.map_err(Refused)?;
    Ok(Json(reply).into_response())
}

async fn agent(
    State(served): State<Served>,
    headers: HeaderMap,
    body: Result<Json<AgentMessage>, JsonRejection>,
) -> Result<Response, Refused> {
    served.access.actor(&headers, "agent").map_err(Refused)?;
    let Json(message) = match body {
        Ok(body) => body,
        Err(rejection) => return Ok(bad_request(&rejection)),
    };
    let Some(intake) = &served.intake else {
        return Err(Refused(Refusal::NotNow {
            reason: "this engine reads its time series from a database; let the agent write there".into(),
        }));
    };
    Ok(Json(intake.take(message).await.map_err(Refused)?).into_response())
}

/// Names what was wrong with the body and where.
fn bad_request(rejection: &JsonRejection) -> Response {
    let body = serde_json::json!({ "error": rejection.body_text() });
    (rejection.status(), Json(body)).into_response()
}
