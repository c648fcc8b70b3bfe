//! The HTTP routes.

use crate::app::App;
use crate::links::LinkError;
use crate::load::Summary;
use axum::extract::{DefaultBodyLimit, Json, MatchedPath, Path, Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, extract::rejection::JsonRejection};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

const MAX_BODY: usize = 16 * 1024;

/// The service's router.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/resolve/{code}", get(resolve))
        .route("/links", post(create_link))
        .route("/load-results", post(load_results))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            count_request,
        ))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

async fn resolve(State(app): State<Arc<App>>, Path(code): Path<String>) -> Response {
    let Some(url) = app.links.find(&code) else {
        return problem(StatusCode::NOT_FOUND, "no such link");
    };
    let Ok(location) = HeaderValue::from_str(&url) else {
        return problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the stored URL is not a header value",
        );
    };
    app.publish_click(&code, &url).await;
    (StatusCode::FOUND, [(LOCATION, location)]).into_response()
}

#[derive(Deserialize)]
struct NewLink {
    url: String,
}

#[derive(Serialize)]
struct CreatedLink {
    code: String,
    url: String,
}

async fn create_link(
    State(app): State<Arc<App>>,
    body: Result<Json<NewLink>, JsonRejection>,
) -> Response {
    let Json(NewLink { url }) = match body {
        Ok(body) => body,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    match app.links.create(&url) {
        Ok(code) => (StatusCode::CREATED, Json(CreatedLink { code, url })).into_response(),
        Err(error @ LinkError::BadUrl(_)) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error @ LinkError::Full) => {
            problem(StatusCode::INSUFFICIENT_STORAGE, &error.to_string())
        }
    }
}

async fn load_results(
    State(app): State<Arc<App>>,
    body: Result<Json<Summary>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(summary)) => {
            app.metrics.load_result(&summary);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(rejection) => problem(rejection.status(), &rejection.body_text()),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.render() {
        Ok(text) => (
            [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn count_request(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    // The pattern, not the path: a label must not take any value a caller likes.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    app.metrics
        .request(route, response.status().as_u16(), start.elapsed());
    response
}

fn problem(status: StatusCode, error: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}
