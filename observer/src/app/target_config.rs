//! What the kernel side is told about a target: how to read its tasks.

use observer_common::config::{
    MAX_TOKIO_COPIES, NO_OFFSET, READER_GO, READER_THREAD, READER_TOKIO, TARGET_TOKIO_COPY,
    TOKIO_HAS_BUDGET, TOKIO_HAS_ENTERED, TOKIO_ID_TAGGED, TargetConfig, TokioCopy,
};

use crate::runtimes::{TaskReader, ThreadLocals, TokioIdForm, TokioReader};

const _: () = assert!(
    MAX_TOKIO_COPIES == crate::runtimes::MAX_TOKIO_COPIES,
    "both sides must have room for the same copies"
);

/// How one copy of tokio is read; `None` when the kernel side can not.
fn tokio_copy(reader: &TokioReader) -> Option<TokioCopy> {
    let mut copy = TokioCopy {
        id: reader.id_offset,
        ..TokioCopy::default()
    };
    if let ThreadLocals::Dynamic { module } = reader.locals {
        copy.module = u32::try_from(module).ok()?;
    }
    if reader.id_form == TokioIdForm::Tagged {
        copy.flags |= TOKIO_ID_TAGGED;
    }
    if let Some(entered) = reader.entered_offset {
        copy.entered = entered;
        copy.flags |= TOKIO_HAS_ENTERED;
    }
    if let Some(budget) = reader.budget_offset {
        copy.budget = budget;
        copy.flags |= TOKIO_HAS_BUDGET;
    }
    Some(copy)
}

/// How the tasks of one target are read.
///
/// `same_pid_namespace`: Go's `m.procid` is the thread id in the target's own pid namespace, so it
/// can only be compared there.
pub fn target_config(reader: Option<&TaskReader>, same_pid_namespace: bool) -> TargetConfig {
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
        Some(TaskReader::Tokio(readers)) => {
            config.reader = READER_TOKIO;
            for (copy, reader) in readers.iter() {
                if let (Some(place), Some(read)) =
                    (config.tokio.get_mut(usize::from(copy)), tokio_copy(reader))
                {
                    *place = read;
                    config.flags |= TARGET_TOKIO_COPY << copy;
                }
            }
        }
    }
    config
}
