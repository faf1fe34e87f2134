//! The one way a type becomes a map key or value: `layout!` proves that it has no padding.

/// Declares concrete types as plain data and proves, at compile time, that their fields fill them
/// without padding. Usage: `layout!(FlowKey<Ipv4>, 20; FlowKey<Ipv6>, 44);` with sizes in bytes.
///
/// The caller upholds what the compiler can't see: every field is itself plain data.
#[macro_export]
macro_rules! layout {
    ($($ty:ty, $len:expr);+ $(;)?) => {$(
        const _: () = assert!(core::mem::size_of::<$ty>() == $len, "the layout has padding or changed size");
        // SAFETY: repr(C), all fields are plain data, and the size shows that there is no padding.
        unsafe impl bytemuck::Zeroable for $ty {}
        // SAFETY: as above; any bit pattern is a value because every field's is.
        unsafe impl bytemuck::Pod for $ty {}
        #[cfg(feature = "user")]
        // SAFETY: Pod above is the same promise in aya's words.
        unsafe impl aya::Pod for $ty {}
    )+};
}
