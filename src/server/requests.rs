//! What the server answers: each question is a call of the supervisor, and the supervisor's answer goes back.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::protocol::{About, Answer, Ask, WorksWith};
use crate::names::ServiceId;
use crate::release::Release;
use crate::rollout::{Rollout, RolloutError, RolloutFailure, Supervisor};

/// What the server knows of itself.
#[derive(Debug)]
pub(super) struct Myself {
    /// Unix milliseconds.
    pub(super) since: u64,
    /// Where routes are listened for.
    pub(super) gateway: SocketAddr,
    /// Where it keeps and finds things.
    pub(super) works_with: WorksWith,
}

/// Answers one question.
pub(super) async fn answer(
    supervisor: Supervisor,
    myself: Arc<Myself>,
    ask: Ask,
    progress: UnboundedSender<String>,
) -> Answer {
    answer_or_fail(&supervisor, &myself, ask, progress).await.unwrap_or_else(|error| {
        tracing::warn!("a client is told: {error}");
        Answer::Failed(error)
    })
}

async fn answer_or_fail(
    supervisor: &Supervisor,
    myself: &Myself,
    ask: Ask,
    progress: UnboundedSender<String>,
) -> Result<Answer, RolloutError> {
    Ok(match ask {
        Ask::About => Answer::About(about(myself, supervisor).await),
        Ask::Services => Answer::Services(supervisor.status().await),
        Ask::Prepare { release } => Answer::Prepared(supervisor.prepare(release, progress).await?),
        Ask::Promote { release, if_live_is } => {
            Answer::Promotion(supervisor.promote(release, if_live_is).await?)
        }
        Ask::Abandon { release, why } => {
            supervisor.abandon(release, &why).await?;
            Answer::Done
        }
        Ask::Keep { service, replicas, route } => {
            supervisor.keep(&service, replicas, route.as_deref()).await?;
            Answer::Done
        }
        Ask::Restart { service, by } => {
            tracing::info!("{service}: restart, asked for by {by}");
            Answer::Restarted(supervisor.restart(&service, &by, progress).await?)
        }
        Ask::Scale { service, replicas, by } => {
            tracing::info!("{service}: scale to {replicas}, asked for by {by}");
            supervisor.scale(&service, replicas, &by).await?;
            Answer::Done
        }
        Ask::Down { service, volumes, by } => {
            let also = if volumes { " with its volumes" } else { "" };
            tracing::info!("{service}: take down{also}, asked for by {by}");
            supervisor.down(&service, volumes, &by).await?;
            Answer::Done
        }
        Ask::RollBack { service, to, by } => {
            Answer::RolledBack(roll_back(supervisor, &service, to, &by, progress).await?)
        }
    })
}

async fn roll_back(
    supervisor: &Supervisor,
    service: &ServiceId,
    to: Option<u64>,
    by: &str,
    progress: UnboundedSender<String>,
) -> Result<Result<Box<Release>, RolloutFailure>, RolloutError> {
    let target = to.map(|number| format!(" to release {number}")).unwrap_or_default();
    tracing::info!("{service}: roll back{target}, asked for by {by}");
    Ok(supervisor.roll_back(service, to, by, progress).await?.map(Box::new))
}

async fn about(myself: &Myself, supervisor: &Supervisor) -> About {
    let gateway_problem = match supervisor.routes().await {
        Some(state) => state.err(),
        // Nobody has listened yet: would it work now?
        None => super::process::gateway_problem(myself.gateway),
    };
    About {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        since: myself.since,
        gateway: myself.gateway.to_string(),
        gateway_problem,
        services: supervisor.status().await.len(),
        memory: resident().unwrap_or_default(),
        works_with: Some(myself.works_with.clone()),
    }
}

/// Resident memory of this process, bytes; none where `/proc` is not there.
fn resident() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_a_process() {
        let bytes = resident().unwrap();
        assert!((1 << 20..1 << 34).contains(&bytes), "{bytes}");
    }
}
