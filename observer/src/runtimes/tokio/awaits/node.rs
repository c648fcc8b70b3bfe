//! One entry of debug information: what is used of it.

use gimli::DwTag;

use super::dies::Die;

/// What is used of an entry.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub(super) die: Die,
    pub(super) tag: DwTag,
    pub(super) name: &'a [u8],
    pub(super) of: Option<Die>,
    pub(super) size: Option<u64>,
    pub(super) offset: Option<u64>,
    pub(super) value: Option<u64>,
    pub(super) has_list: bool,
    pub(super) discriminant: Option<Die>,
    pub(super) containing: Option<Die>,
    pub(super) origin: Option<Die>,
    pub(super) file: Option<u64>,
    pub(super) line: Option<u64>,
    pub(super) symbol: Option<&'a [u8]>,
}

impl Node<'_> {
    pub(super) fn new(die: Die, tag: DwTag) -> Self {
        Self {
            die,
            tag,
            name: &[],
            of: None,
            size: None,
            offset: None,
            value: None,
            has_list: false,
            discriminant: None,
            containing: None,
            origin: None,
            file: None,
            line: None,
            symbol: None,
        }
    }
}
