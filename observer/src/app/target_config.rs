//! What the kernel side is told about a target: how to read its tasks and stacks.

use observer_common::config::{
    NO_OFFSET, READER_GO, READER_THREAD, READER_TOKIO, TARGET_COPY_STACKS,
    TARGET_NO_FRAME_POINTERS, TOKIO_HAS_BUDGET, TOKIO_HAS_ENTERED, TOKIO_ID_TAGGED, TargetConfig,
};

use crate::runtimes::{TaskReader, TokioIdForm};

/// What the kernel side is told about one target.
///
/// `same_pid_namespace`: Go's `m.procid` is the thread id in the target's own pid namespace, so it
/// can only be compared there.
pub fn target_config(
    reader: Option<&TaskReader>,
    copy_stacks: bool,
    no_frame_pointers: bool,
    same_pid_namespace: bool,
) -> TargetConfig {
    let mut config = TargetConfig::default();
    match reader {
        None => config.reader = READER_THREAD,
        Some(TaskReader::Go(go)) => {
            config.reader = READER_GO;
            config.go_tls = go.tls_offset;
            config.go_g_m = go.g_m;
            config.go_g_goid = go.g_goid;
            config.go_g_status = go.g_status;
            config.go_g_waitreason = go.g_waitreason;
            config.go_m_curg = go.m_curg;
            config.go_m_procid = if same_pid_namespace {
                go.m_procid
            } else {
                NO_OFFSET
            };
            config.go_g_syscallsp = NO_OFFSET;
            if let Some(cgo) = go.cgo {
                config.go_g_syscallsp = cgo.g_syscallsp;
                (config.go_text, config.go_text_end) = (cgo.text, cgo.text_end);
            }
        }
        Some(TaskReader::Tokio(tokio)) => {
            config.reader = READER_TOKIO;
            config.tokio_id = tokio.id_offset;
            if tokio.id_form == TokioIdForm::Tagged {
                config.flags |= TOKIO_ID_TAGGED;
            }
            if let Some(entered) = tokio.entered_offset {
                config.tokio_entered = entered;
                config.flags |= TOKIO_HAS_ENTERED;
            }
            if let Some(budget) = tokio.budget_offset {
                config.tokio_budget = budget;
                config.flags |= TOKIO_HAS_BUDGET;
            }
        }
    }
    if copy_stacks {
        config.flags |= TARGET_COPY_STACKS;
    }
    if no_frame_pointers {
        config.flags |= TARGET_NO_FRAME_POINTERS;
    }
    config
}
