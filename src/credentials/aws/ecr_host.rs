//! The hosts of Amazon's registries, and the services that issue passwords for them.
//!
//! A private registry is called `<account>.dkr.ecr.<region>.<suffix>`, with `ecr-fips` for FIPS
//! 140-3, or `<account>.dkr-ecr.<region>.on.aws` for IPv4 and IPv6 (Amazon ECR user guide, "Private
//! registry", "Making requests over IPv6"). Its service has a host for each region (AWS general
//! reference, "Amazon ECR endpoints and quotas").

use url::Url;

/// The call that issues passwords for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EcrService {
    /// The region, which is signed.
    pub(super) region: String,
    /// The name of the service, which is signed.
    pub(super) name: &'static str,
    /// The call, for `X-Amz-Target`.
    pub(super) target: &'static str,
    /// The URL.
    pub(super) url: String,
}

/// The ends of private registries' names, and those of the services beside them.
const SUFFIXES: [SuffixPair; 7] = [
    SuffixPair { registry: "amazonaws.com", is_dual: false, service: "amazonaws.com" },
    SuffixPair { registry: "amazonaws.com.cn", is_dual: false, service: "amazonaws.com.cn" },
    SuffixPair { registry: "amazonaws.eu", is_dual: false, service: "amazonaws.eu" },
    SuffixPair { registry: "on.aws", is_dual: true, service: "api.aws" },
    SuffixPair {
        registry: "on.amazonwebservices.com.cn",
        is_dual: true,
        service: "api.amazonwebservices.com.cn",
    },
    SuffixPair { registry: "c2s.ic.gov", is_dual: false, service: "c2s.ic.gov" },
    SuffixPair { registry: "sc2s.sgov.gov", is_dual: false, service: "sc2s.sgov.gov" },
];

struct SuffixPair {
    registry: &'static str,
    /// For IPv4 and IPv6, with names of its own.
    is_dual: bool,
    service: &'static str,
}

impl EcrService {
    /// The service of the registry at `host`, in lower case and without a port; `None` if its name
    /// is not one of Amazon's.
    pub(super) fn of_registry(host: &str) -> Option<Self> {
        if matches!(host, "public.ecr.aws" | "ecr-public.aws.com") {
            return Some(Self::public());
        }
        let (account, rest) = host.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let dual = rest.strip_prefix("dkr-").map(|rest| (rest, true));
        let (rest, is_dual) = dual.or_else(|| Some((rest.strip_prefix("dkr.")?, false)))?;
        let (service, rest) = rest.split_once('.')?;
        let (region, suffix) = rest.split_once('.')?;
        let suffix =
            SUFFIXES.iter().find(|it| it.registry == suffix && it.is_dual == is_dual)?.service;
        let is_region = is_region(region);
        let host = match (service, is_dual) {
            ("ecr", false) => format!("api.ecr.{region}.{suffix}"),
            ("ecr" | "ecr-fips", _) => format!("{service}.{region}.{suffix}"),
            _ => return None,
        };
        (is_account && is_region).then(|| Self::private(region, format!("https://{host}/")))
    }

    /// The service of private registries in `region`, for one that has a name of its own.
    pub(super) fn in_region(region: &str) -> Self {
        let suffix = partition_suffix(region);
        Self::private(region, format!("https://api.ecr.{region}.{suffix}/"))
    }

    /// The host of the Security Token Service of the region.
    pub(super) fn sts_host(&self) -> String {
        format!("sts.{}.{}", self.region, partition_suffix(&self.region))
    }

    fn private(region: &str, url: String) -> Self {
        let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
        Self { region: region.to_owned(), name: "ecr", target, url }
    }

    /// The service of all public registries is in one region.
    fn public() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            name: "ecr-public",
            target: "SpencerFrontendService.GetAuthorizationToken",
            url: "https://api.ecr-public.us-east-1.amazonaws.com/".to_owned(),
        }
    }

    /// The same service at another URL.
    pub(super) fn at(self, url: &Url) -> Self {
        Self { url: url.to_string(), ..self }
    }
}

/// The end of the names of the services in the partition that a region is in.
fn partition_suffix(region: &str) -> &'static str {
    let partitions = [
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
    ];
    let partition = partitions.iter().find(|(start, _)| region.starts_with(start));
    partition.map_or("amazonaws.com", |(_, suffix)| suffix)
}

/// Whether `text` can be the name of a region: it becomes a part of hosts that are called.
pub(super) fn is_region(text: &str) -> bool {
    (3..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_a_registry_follows_from_its_name() {
        for (host, region, service) in [
            ("dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", "api.ecr.eu-west-1.amazonaws.com"),
            (
                "dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
                "ecr-fips.us-gov-west-1.amazonaws.com",
            ),
            (
                "dkr.ecr.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
                "api.ecr.cn-north-1.amazonaws.com.cn",
            ),
            (
                "dkr.ecr.eusc-de-east-1.amazonaws.eu",
                "eusc-de-east-1",
                "api.ecr.eusc-de-east-1.amazonaws.eu",
            ),
            ("dkr-ecr.us-east-1.on.aws", "us-east-1", "ecr.us-east-1.api.aws"),
            ("dkr-ecr-fips.us-east-2.on.aws", "us-east-2", "ecr-fips.us-east-2.api.aws"),
            (
                "dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn",
                "cn-northwest-1",
                "ecr.cn-northwest-1.api.amazonwebservices.com.cn",
            ),
        ] {
            let found = EcrService::of_registry(&format!("123456789012.{host}")).unwrap();
            assert_eq!((found.region.as_str(), found.name), (region, "ecr"), "{host}");
            assert_eq!(found.url, format!("https://{service}/"));
        }
        let public = EcrService::of_registry("public.ecr.aws").unwrap();
        assert_eq!((public.region.as_str(), public.name), ("us-east-1", "ecr-public"));
    }

    /// A name that only looks like one of Amazon's would choose the host that is called.
    #[test]
    fn other_names_are_no_registry_of_amazon() {
        for host in [
            "",
            "docker.io",
            "dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901x.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.test",
            "123456789012.dkr.ecr.eu-west-1.evil.test.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.co",
            "123456789012.dkr.ecr.eu-west-1.on.aws",
            "123456789012.dkr-ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr-evil.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.-x-.amazonaws.com",
            "123456789012.dkr.ecr.a/b.amazonaws.com",
            "123456789012.dkr.ecr.a@b.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443",
            "x.123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        ] {
            assert_eq!(EcrService::of_registry(host), None, "{host}");
        }
    }
}
