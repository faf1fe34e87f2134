//! The compiler: model, drivers and host facts to `Desired`. Pure, total, deterministic.
