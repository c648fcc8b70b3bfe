//! Stack frames, sites and resources.

use super::schema;
use crate::model::{self, Known};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One frame of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Demangled function name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Source line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Executable or library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Of code without a name: its address in the module's file, in hex; the same in every run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_offset: Option<String>,
    /// Application, language runtime or kernel.
    #[schemars(schema_with = "schema::frame_kind")]
    pub kind: String,
    /// Instruction address in the process or the kernel, in hex.
    pub address: String,
    /// Why the function is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_reason: Option<String>,
}

impl From<&model::Frame> for Frame {
    fn from(frame: &model::Frame) -> Self {
        Self {
            function: frame.function.as_deref().map(ToOwned::to_owned),
            file: frame.file.as_deref().map(ToOwned::to_owned),
            line: frame.line,
            module: frame.module.as_deref().map(ToOwned::to_owned),
            module_offset: frame.module_offset.map(|offset| format!("{offset:#x}")),
            kind: frame.kind.as_str().to_owned(),
            address: format!("{:#x}", frame.address),
            unknown_reason: frame.unknown_reason.as_ref().map(ToString::to_string),
        }
    }
}

/// Where tasks block: the nearest frame of the application's own code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Site {
    /// Demangled function name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Source line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Executable or library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Of code without a name: its address in the module's file, in hex; the same in every run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_offset: Option<String>,
    /// Instruction address, in hex. Absent when the site is not known at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why the site, or its function, is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_reason: Option<String>,
}

impl From<&Known<model::Frame>> for Site {
    fn from(site: &Known<model::Frame>) -> Self {
        match site {
            Known::Known(frame) => Self {
                function: frame.function.as_deref().map(ToOwned::to_owned),
                file: frame.file.as_deref().map(ToOwned::to_owned),
                line: frame.line,
                module: frame.module.as_deref().map(ToOwned::to_owned),
                module_offset: frame.module_offset.map(|offset| format!("{offset:#x}")),
                address: Some(format!("{:#x}", frame.address)),
                unknown_reason: frame.unknown_reason.as_ref().map(ToString::to_string),
            },
            Known::Unknown(reason) => Self {
                function: None,
                file: None,
                line: None,
                module: None,
                module_offset: None,
                address: None,
                unknown_reason: Some(reason.to_string()),
            },
        }
    }
}

/// What a wait is for. Absent fields are not known or do not apply to the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resource {
    /// `socket`, `file`, `pipe`, `eventfd`, `epoll`, `futex`, `timer`, `channel`, `mutex`, ...
    pub kind: String,
    /// File descriptor in the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd: Option<i32>,
    /// Address in the target (futex word, channel, mutex), in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Local socket address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// Peer socket address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Path of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Socket state, or why a field is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl From<&model::Resource> for Resource {
    fn from(resource: &model::Resource) -> Self {
        Self {
            kind: resource.kind.to_owned(),
            fd: resource.fd,
            address: resource.address.map(|address| format!("{address:#x}")),
            local: resource.local.clone(),
            peer: resource.peer.clone(),
            path: resource.path.clone(),
            state: resource.state.clone(),
        }
    }
}
