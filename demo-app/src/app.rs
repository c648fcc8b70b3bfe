//! What the handlers share, and the publish path that they run.

use crate::click::Sequence;
use crate::links::Links;
use crate::metrics::{FailedAt, Metrics};
use crate::publisher::Publisher;
use crate::scenarios::Scenario;
use std::sync::Arc;

/// State of the service.
pub struct App {
    /// The link store.
    pub links: Links,
    /// The service's metrics.
    pub metrics: Metrics,
    /// The way to Kafka.
    pub publisher: Publisher,
    /// The planted fault.
    pub scenario: Arc<dyn Scenario>,
    /// Numbers the clicks.
    pub clicks: Sequence,
}

impl App {
    /// Publishes the click. A lost event is counted, and the redirect happens all the same: the
    /// visitor must not pay for the statistics.
    pub async fn publish_click(&self, code: &str, url: &str) {
        let all = self.metrics.publish_all.start_timer();
        if let Err(at) = self.try_publish(code, url).await {
            self.metrics.failed(at);
        }
        all.observe_duration();
    }

    async fn try_publish(&self, code: &str, url: &str) -> Result<(), FailedAt> {
        let click = self.clicks.click(code, url);
        let event = serde_json::to_vec(&click).map_err(|_| FailedAt::Queue)?;
        self.scenario
            .before_publish(&event)
            .await
            .map_err(|_| FailedAt::Scenario)?;
        self.publisher
            .send(code, &event)
            .await
            .map_err(|_| FailedAt::Queue)
    }
}
