//! Front doors: translate their words to commands and outcomes back.
