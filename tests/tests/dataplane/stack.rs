//! How much of the kernel's stack the programs of the object take, read from their instructions.
//!
//! Law: what is not understood is a panic, never a smaller number.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aya_obj::generated::bpf_insn;
use netd_user::dataplane::object::DATAPLANE_OBJECT;

/// The frame pointer, which only a function's own stack is addressed by.
const FRAME: u8 = 10;
const CALL: u8 = 0x85;
const LOAD_IMM64: u8 = 0x18;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
/// `src_reg` of a call, or of a constant, that means a function of the object.
const PSEUDO_CALL: u8 = 1;
const PSEUDO_FUNCTION: u8 = 4;

/// A program's stack in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Of the function that takes most.
    pub frame: u32,
    /// Of the functions of the deepest chain of calls, rounded as the kernel does.
    pub chain: u32,
}

/// Of every program by name.
pub fn of_programs() -> BTreeMap<String, Stack> {
    let mut object = aya_obj::Object::parse(DATAPLANE_OBJECT).expect("an object");
    let sections: HashSet<_> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).expect("functions that are there");
    let programs = object.programs.iter();
    programs
        .map(|(name, program)| {
            (name.clone(), of(&object.functions[&program.function_key()].instructions))
        })
        .collect()
}

/// Of a program with all functions that it calls behind it.
fn of(code: &[bpf_insn]) -> Stack {
    let starts: BTreeSet<usize> =
        std::iter::once(0).chain((0..code.len()).filter_map(|at| called_at(code, at))).collect();
    let ends = starts.iter().copied().skip(1).chain([code.len()]);
    let functions: BTreeMap<usize, (u32, Vec<usize>)> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let calls = (*start..end).filter_map(|at| called_at(code, at)).collect();
            (*start, (frame(&code[*start..end]), calls))
        })
        .collect();
    let frame = functions.values().map(|(frame, _)| *frame).max().unwrap_or_default();
    Stack { frame, chain: chain(&functions, 0) }
}

/// The function that an instruction calls, or hands to a helper that does.
fn called_at(code: &[bpf_insn], at: usize) -> Option<usize> {
    let instruction = &code[at];
    let is_call = instruction.code == CALL && instruction.src_reg() == PSEUDO_CALL
        || instruction.code == LOAD_IMM64 && instruction.src_reg() == PSEUDO_FUNCTION;
    is_call.then(|| (at + 1).checked_add_signed(instruction.imm as isize).expect("a place"))
}

/// The deepest byte below the frame pointer that a function names.
fn frame(function: &[bpf_insn]) -> u32 {
    let depth = |(at, instruction): (usize, &bpf_insn)| {
        let (class, is_move) = (instruction.code & 7, instruction.code == MOVE);
        let offset = match class {
            1 if instruction.src_reg() == FRAME => i32::from(instruction.off),
            2 | 3 if instruction.dst_reg() == FRAME => i32::from(instruction.off),
            _ if is_move && instruction.src_reg() == FRAME => {
                address(*instruction, function[at + 1])
            }
            _ => return 0,
        };
        offset.checked_neg().and_then(|depth| u32::try_from(depth).ok()).expect("below the frame")
    };
    // The kernel counts in words of eight bytes.
    function.iter().enumerate().map(depth).max().unwrap_or_default().next_multiple_of(8)
}

/// The compiler makes an address of a copy of the frame pointer and an addition right behind it.
fn address(copy: bpf_insn, next: bpf_insn) -> i32 {
    assert!(next.code == ADD && next.dst_reg() == copy.dst_reg(), "an address of another form");
    next.imm
}

fn chain(functions: &BTreeMap<usize, (u32, Vec<usize>)>, start: usize) -> u32 {
    let (frame, calls) = &functions[&start];
    let below = calls.iter().map(|called| chain(functions, *called)).max().unwrap_or_default();
    // A JIT's frames end at a multiple of sixteen bytes, and none is empty.
    (*frame).max(1).next_multiple_of(16) + below
}
