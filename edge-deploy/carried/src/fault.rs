//! What is said of calls that were stopped.

use alloc::format;

use mezze_core::{TransformCall, TransformFault, TransformFaultKind};

/// Why a call was stopped, by the letters that wit/carried.wit has.
pub(crate) fn stopped(letter: u8, call: &TransformCall<'_>) -> TransformFault {
    let (limits, rows) = (&call.transform.limits, call.rows);
    let (kind, message) = match letter {
        b'f' => return TransformFault::fuel(limits, rows),
        b'm' => {
            let bytes = limits.memory_bytes;
            (TransformFaultKind::Memory, format!("it wanted more than the {bytes} bytes of memory it may have"))
        }
        b'o' => return TransformFault::output_size(limits, rows),
        b's' => (TransformFaultKind::Trap, "it trapped: a stack overflow".into()),
        b't' => (TransformFaultKind::Trap, "it trapped: unreachable code, a bad access or a stack overflow".into()),
        _ => (TransformFaultKind::BadOutput, "what it gave is no list of columns".into()),
    };
    TransformFault { kind, message }
}

#[cfg(test)]
mod tests {
    use mezze_core::{Transform, TransformId, TransformLimits};

    use super::*;

    #[test]
    fn letters_say_why() {
        let limits = TransformLimits { fuel: 10, memory_bytes: 20, output_bytes: 30, millis: 40 };
        let transform = Transform { id: TransformId::from_bytes([0; 32]), limits };
        let call = TransformCall { transform: &transform, rows: 2, inputs: &[], input_types: &[], outputs: &[] };
        let said = |letter| {
            let fault = stopped(letter, &call);
            format!("{}: {}", fault.kind.name(), fault.message)
        };
        assert_eq!(said(b'b'), "bad-output: what it gave is no list of columns");
        assert_eq!(said(b'f'), "fuel: it took more than the 30 instructions that 2 rows may take");
        assert_eq!(said(b'm'), "memory: it wanted more than the 20 bytes of memory it may have");
        assert_eq!(said(b'o'), "output-size: it gave more than the 90 bytes that 2 rows may give");
        assert_eq!(said(b's'), "trap: it trapped: a stack overflow");
        assert_eq!(said(b't'), "trap: it trapped: unreachable code, a bad access or a stack overflow");
        assert_eq!(said(b'?'), said(b'b'));
    }
}
