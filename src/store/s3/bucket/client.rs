//! The client: credentials, region and endpoint as the AWS tools find them, with what the store's address says on top.

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_types::service_config::ServiceConfigKey;

use super::Inner;
use super::authorities::Authorities;

/// Where servers lie that do not care.
const ANY_REGION: &str = "us-east-1";

/// What a request needs.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    pub client: aws_sdk_s3::Client,
    /// Bytes are protected on their way, so that they need not be hashed for the signature.
    pub encrypted: bool,
    /// As the requests are signed for.
    pub region: String,
    /// The server, when it is not AWS.
    pub endpoint: Option<String>,
    /// Whose certificates are trusted.
    pub authorities: Authorities,
}

/// The client, made at first use.
pub(super) async fn reach(inner: &Inner) -> &Reach {
    inner.reach.get_or_init(|| make(inner)).await
}

async fn make(inner: &Inner) -> Reach {
    let place = &inner.place;
    let authorities = Authorities::of_process();
    let timeouts = TimeoutConfig::builder().connect_timeout(inner.limits.connect).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(&authorities))
        .timeout_config(timeouts);
    if let Ok(name) = AppName::new("flowrun") {
        loader = loader.app_name(name);
    }
    if let Some(profile) = &place.profile {
        // Who names a profile here means its keys too, also beside variables with others.
        let base = ProviderConfig::default().with_http_client(http_client(&authorities));
        let keys = ProfileFileCredentialsProvider::builder().configure(&base).profile_name(profile);
        loader = loader.profile_name(profile).credentials_provider(keys.build());
    }
    if let Some(region) = &place.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &place.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    Reach { authorities, ..assembled(inner, &loader.load().await) }
}

/// The client of what was found.
pub(super) fn assembled(inner: &Inner, found: &SdkConfig) -> Reach {
    let place = &inner.place;
    let timeouts = TimeoutConfig::builder().connect_timeout(inner.limits.connect).build();
    let endpoint = place.endpoint.clone().or_else(|| endpoint_of_s3(found));
    let region = found.region().map_or_else(|| ANY_REGION.to_owned(), ToString::to_string);
    // Retries and the watch over silence are this module's own: they know what a lost answer to a conditional write means.
    let config = aws_sdk_s3::config::Builder::from(found)
        .region(Region::new(region.clone()))
        .force_path_style(place.path_style.unwrap_or(endpoint.is_some()))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    let encrypted = endpoint.as_deref().is_none_or(|endpoint| endpoint.starts_with("https://"));
    let client = aws_sdk_s3::Client::from_conf(config.build());
    Reach { client, encrypted, region, endpoint, authorities: Authorities::default() }
}

/// The endpoint that variables or a profile name, for S3 alone or for all services.
fn endpoint_of_s3(found: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    let own = found.service_config().and_then(|config| config.load_config(key));
    own.or_else(|| found.endpoint_url().map(str::to_owned))
}

/// Through the proxies that the environment names.
pub(super) fn http_client(authorities: &Authorities) -> SharedHttpClient {
    let context = authorities.context();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().proxy_config(ProxyConfig::from_env());
        builder.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            builder.set_sleep_impl(components.sleep_impl());
        }
        let builder = builder.tls_provider(Provider::Rustls(CryptoMode::Ring));
        match &context {
            Some(context) => builder.tls_context(context.clone()).build(),
            None => builder.build(),
        }
    })
}
