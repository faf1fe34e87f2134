//! The one ordered apply: makes the kernel match `Desired`.
