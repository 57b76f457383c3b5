//! What is said of calls that failed: the same as every other host says.

use alloc::format;
use alloc::string::String;

use mezze_core::{TransformCall, TransformFault, TransformFaultKind};

/// Why a call was stopped, by the letters that wit/carried.wit has.
pub fn stopped(letter: u8, call: &TransformCall<'_>) -> TransformFault {
    let (limits, rows) = (&call.transform.limits, call.rows);
    let (kind, message) = match letter {
        b'f' => {
            let fuel = limits.fuel_of(rows);
            (TransformFaultKind::Fuel, format!("it took more than the {fuel} instructions that {rows} rows may take"))
        }
        b'm' => {
            let bytes = limits.memory_bytes;
            (TransformFaultKind::Memory, format!("it wanted more than the {bytes} bytes of memory it may have"))
        }
        b'o' => {
            let bytes = limits.output_bytes_of(rows);
            (TransformFaultKind::OutputSize, format!("it gave more than the {bytes} bytes that {rows} rows may give"))
        }
        b's' => (TransformFaultKind::Trap, "it trapped: a stack overflow".into()),
        b't' => (TransformFaultKind::Trap, "it trapped: unreachable code, a bad access or a stack overflow".into()),
        _ => (TransformFaultKind::BadOutput, "what it gave is no list of columns".into()),
    };
    TransformFault { kind, message }
}

/// What a transform said of itself.
pub fn refused(message: &str) -> TransformFault {
    // It goes into logs, a line a fault.
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let message: String = message.chars().take(MESSAGE_CHARS_MAX).map(plain).collect();
    TransformFault { kind: TransformFaultKind::Refused, message }
}

/// A call has more of something than can be counted on its way.
pub(crate) fn too_many_rows(call: &TransformCall<'_>) -> TransformFault {
    refused(&format!("{} rows are too many for one call", call.rows))
}

/// Of what a component says.
const MESSAGE_CHARS_MAX: usize = 1_000;

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

    #[test]
    fn what_it_says_is_a_line() {
        assert_eq!(refused("row 1:\n\tno\u{1}").message, "row 1:  no ");
        assert_eq!(refused(&"é".repeat(1_001)).message, "é".repeat(1_000));
        assert_eq!(refused("").kind, TransformFaultKind::Refused);
    }
}
