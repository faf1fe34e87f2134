//! The kernel object, embedded as the build script left it: the binary needs no file beside it, and
//! the layouts of both sides come from one build.

/// The ELF file with every program, map definition and the BTF, aligned for its parser.
pub static DATAPLANE_OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netd-dataplane"));

#[cfg(test)]
mod tests {
    use super::DATAPLANE_OBJECT;

    #[test]
    fn embedded_object_is_an_aligned_elf_file_for_bpf() {
        const MACHINE_OFFSET: usize = 18;
        const EM_BPF: [u8; 2] = 247u16.to_le_bytes();
        assert_eq!(&DATAPLANE_OBJECT[..4], b"\x7fELF");
        assert_eq!(DATAPLANE_OBJECT[MACHINE_OFFSET..MACHINE_OFFSET + 2], EM_BPF);
        assert_eq!(DATAPLANE_OBJECT.as_ptr().align_offset(8), 0);
    }
}
