//! Wire types (placeholder while the skeleton is laid).
#![cfg_attr(not(feature = "user"), no_std)]
