//! A quick suspicion, cheap to be wrong: it keeps a ramp from going on, and never turns it back.

use statrs::function::gamma::ln_gamma;

/// The evidence at which a ramp is frozen.
const SUSPICION: f64 = 20.0;

/// Whether the canary's share of the events is suspicious, as if each were independent of the others: the uniform mixture of
/// binomial likelihoods against one half (Lindon and Malek, "Anytime-valid inference for multinomial count data", `NeurIPS` 2022).
///
/// Events that come in bursts are not independent, so that it is wrong more often than the judge; and it sees more, earlier.
pub(super) fn is_suspicious((canary, baseline): (f64, f64)) -> bool {
    let log = ln_gamma(canary + 1.0) + ln_gamma(baseline + 1.0) - ln_gamma(canary + baseline + 2.0)
        + (canary + baseline) * std::f64::consts::LN_2;
    canary > baseline && log >= SUSPICION.ln()
}
