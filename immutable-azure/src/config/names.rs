//! What can be a name in Azure: <https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules>.

/// Whether this can be the id of a subscription.
pub(super) fn is_guid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| is_hex(part))
}

/// Whether this can be the name of a resource group. Letters beyond ASCII, which Azure allows, are not, so that a name is the same in a URL.
pub(super) fn is_resource_group(text: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || "-_.()".contains(c);
    !text.is_empty() && text.len() <= 90 && text.chars().all(usual) && !text.ends_with('.')
}

/// Whether this can be the name of a location, as it is in ids: without spaces.
pub(crate) fn is_location(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// Whether this can be a zone.
pub(super) fn is_zone(text: &str) -> bool {
    matches!(text.as_bytes(), [b'1'..=b'9'])
}

/// Whether this can be a size of machines.
pub(crate) fn is_size(text: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    !text.is_empty() && text.len() <= 64 && text.chars().all(usual)
}

/// Whether this can be the id of a resource of this service, and of this type if it is given: `["virtualNetworks", "subnets"]`. Without regard to
/// the case of what Azure names.
pub(crate) fn is_resource(id: &str, service: &str, kind: Option<&[&str]>) -> bool {
    let parts: Vec<_> = id.split('/').collect();
    let ["", subscriptions, subscription, groups, group, providers, found, rest @ ..] = parts.as_slice() else {
        return false;
    };
    let (types, names) = (rest.iter().step_by(2), rest.iter().skip(1).step_by(2));
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let fixed =
        [(*subscriptions, "subscriptions"), (*groups, "resourceGroups"), (*providers, "providers"), (*found, service)];
    fixed.iter().all(|(one, other)| same(one, other))
        && is_guid(subscription)
        && is_resource_group(group)
        && !rest.is_empty()
        && rest.len() % 2 == 0
        && kind.is_none_or(|kind| {
            kind.len() == types.len() && types.clone().zip(kind).all(|(one, other)| same(one, other))
        })
        && types.chain(names).all(|part| is_part(part))
}

/// Whether this can be one part of an id. The rules of types differ; this is what all of them allow.
fn is_part(text: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || "-_.()".contains(c);
    !text.is_empty() && text.len() <= 90 && text.chars().all(usual) && text.chars().any(|c| c != '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(is: impl Fn(&str) -> bool, good: &[&str], wrong: &[&str]) {
        assert!(good.iter().all(|text| is(text)), "{good:?}");
        for text in wrong {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn names_are_told_from_what_is_none() {
        let guid = "01234567-89ab-CDEF-0123-456789abcdef";
        check(
            is_guid,
            &[guid],
            &["", "0", "01234567-89ab-cdef-0123", "g1234567-89ab-cdef-0123-456789abcdef", &format!("{guid}-")],
        );
        check(is_resource_group, &["web", "Web_1.(a)"], &["", "web.", "a/b", "a b", "..", &"a".repeat(91)]);
        check(is_location, &["westeurope", "eastus2"], &["", "West Europe", "west-europe"]);
        check(is_zone, &["1", "3"], &["", "0", "12", "a"]);
        check(is_size, &["Standard_D2s_v5", "Standard_DC4-2s"], &["", "Standard D2", "a/b"]);
    }

    #[test]
    fn ids_of_resources_are_told_from_what_is_none() {
        let id = |rest: &str| {
            format!("/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/g/providers/{rest}")
        };
        let of = |rest: &str, kind: Option<&[&str]>| is_resource(&id(rest), "Microsoft.Network", kind);
        assert!(of("Microsoft.Network/virtualNetworks/a/subnets/b", Some(&["virtualNetworks", "subnets"])));
        assert!(of("microsoft.network/VirtualNetworks/a/Subnets/b", Some(&["virtualNetworks", "subnets"])));
        assert!(of("Microsoft.Network/loadBalancers/a", None));
        for wrong in [
            "Microsoft.Network",
            "Microsoft.Network/",
            "Microsoft.Network/loadBalancers",
            "Microsoft.Network/loadBalancers/",
            "Microsoft.Network/loadBalancers/..",
            "Microsoft.Network/loadBalancers/a?b",
            "Microsoft.Network/loadBalancers/a/",
            "Microsoft.Compute/loadBalancers/a",
        ] {
            assert!(!of(wrong, None), "{wrong}");
        }
        assert!(!of("Microsoft.Network/virtualNetworks/a", Some(&["virtualNetworks", "subnets"])));
        assert!(!of("Microsoft.Network/virtualNetworks/a/subnets/b", Some(&["virtualNetworks"])));
        assert!(!is_resource("Microsoft.Network/loadBalancers/a", "Microsoft.Network", None));
    }
}
