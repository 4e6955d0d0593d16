//! Percentiles of what is told as a histogram.

use google_cloud_monitoring_v3::model::TypedValue;

/// How many values are in each bucket: the first is below the first bound, the last from the last bound on.
struct Histogram {
    bounds: Vec<f64>,
    counts: Vec<i64>,
}

/// The value that this part of a distribution's values do not exceed, if it has any. Cloud Monitoring itself has no 90th percentile.
pub(super) fn percentile(value: &TypedValue, part: f64) -> Option<f64> {
    let distribution = value.distribution_value()?;
    let options = distribution.bucket_options.as_ref()?;
    let bounds = if let Some(buckets) = options.exponential_buckets() {
        (0..=buckets.num_finite_buckets).map(|n| buckets.scale * buckets.growth_factor.powi(n)).collect()
    } else if let Some(buckets) = options.linear_buckets() {
        (0..=buckets.num_finite_buckets).map(|n| buckets.offset + buckets.width * f64::from(n)).collect()
    } else {
        options.explicit_buckets()?.bounds.clone()
    };
    Histogram { bounds, counts: distribution.bucket_counts.clone() }.percentile(part)
}

impl Histogram {
    /// The percentile, as if the values of a bucket were spread evenly over it. What is beyond the last bound is taken to be at it; what is below the
    /// first, to be positive.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests in a minute")]
    fn percentile(&self, part: f64) -> Option<f64> {
        let all: i64 = self.counts.iter().sum();
        let wanted = all as f64 * part;
        let mut before = 0.0;
        for (bucket, count) in self.counts.iter().map(|count| *count as f64).enumerate() {
            if count > 0.0 && before + count >= wanted {
                let low = bucket.checked_sub(1).map_or(0.0_f64.min(*self.bounds.first()?), |n| self.bound(n));
                let high = self.bound(bucket);
                return Some(low + (high - low) * ((wanted - before) / count).clamp(0.0, 1.0));
            }
            before += count;
        }
        None
    }

    /// A bound, or the last one.
    fn bound(&self, index: usize) -> f64 {
        self.bounds.get(index).or(self.bounds.last()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(options: &serde_json::Value, counts: &[i64]) -> TypedValue {
        let counts: Vec<String> = counts.iter().map(i64::to_string).collect();
        let distribution = json!({ "count": "1", "bucketOptions": options, "bucketCounts": counts });
        serde_json::from_value(json!({ "distributionValue": distribution })).unwrap()
    }

    #[test]
    fn percentiles_are_where_so_many_values_are_below() {
        // 0, 1, 2, 4, 8 and more.
        let buckets = json!({ "exponentialBuckets": { "numFiniteBuckets": 3, "growthFactor": 2.0, "scale": 1.0 } });
        let cases: &[(&[i64], f64, Option<f64>)] = &[
            (&[], 0.5, None),
            (&[0, 0, 0], 0.5, None),
            (&[0, 0, 10], 0.5, Some(3.0)),
            (&[0, 0, 10], 0.99, Some(3.98)),
            (&[10], 0.5, Some(0.5)),
            (&[0, 5, 5], 0.5, Some(2.0)),
            (&[0, 5, 0, 5], 0.6, Some(4.8)),
            (&[0, 90, 0, 10], 0.9, Some(2.0)),
            (&[0, 90, 0, 10], 0.95, Some(6.0)),
            (&[0, 0, 0, 0, 7], 0.5, Some(8.0)),
        ];
        for (counts, part, expected) in cases {
            let found = percentile(&value(&buckets, counts), *part);
            let is_equal = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(is_equal, "{part} of {counts:?} is {found:?}, not {expected:?}");
        }
    }

    #[test]
    fn all_kinds_of_buckets_are_read() {
        let of = |options| percentile(&value(&options, &[0, 0, 1]), 1.0);
        let linear = json!({ "linearBuckets": { "numFiniteBuckets": 5, "width": 10.0, "offset": 5.0 } });
        assert_eq!(of(linear), Some(25.0));
        assert_eq!(of(json!({ "explicitBuckets": { "bounds": [1.0, 2.0, 7.0] } })), Some(7.0));
        assert_eq!(of(json!({})), None);
        assert_eq!(percentile(&TypedValue::new().set_int64_value(3), 0.5), None);
    }
}
