//! What is known of registers while code is looked at.

use iced_x86::Register;

/// What a register is known to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Value {
    #[default]
    Unknown,
    /// The thread pointer plus this many bytes; on some ways perhaps 0, of which code makes no use.
    ThreadPointer(i64),
    /// A number.
    Constant(i64),
}

pub(super) type Registers = [Value; 16];

/// Joins what two paths know: what they do not agree on is not known. Where one has the place of a
/// thread-local and the other a null pointer (the thread is ending), it is the place.
pub(super) fn join(own: &mut Registers, other: &Registers) {
    for (own, other) in own.iter_mut().zip(other) {
        *own = match (*own, *other) {
            (own, other) if own == other => own,
            (place @ Value::ThreadPointer(_), Value::Constant(0))
            | (Value::Constant(0), place @ Value::ThreadPointer(_)) => place,
            _ => Value::Unknown,
        };
    }
}

pub(super) fn add(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Constant(x), Value::Constant(y)) => Value::Constant(x.wrapping_add(y)),
        (Value::ThreadPointer(x), Value::Constant(y))
        | (Value::Constant(x), Value::ThreadPointer(y)) => Value::ThreadPointer(x.wrapping_add(y)),
        _ => Value::Unknown,
    }
}

/// Index of a general register; narrow writes count as writes of the whole.
pub(super) fn slot(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

/// A register's bit in a set; none for what is no general register.
pub(super) fn bit(register: Register) -> u16 {
    slot(register).map_or(0, |s| 1 << s)
}
