//! The gateways over TLS: an authority and a certificate of our own, made at the first start and kept.
//! Anybody may connect; who shows a certificate must have its key. `protocol` says where the merchant's is
//! wanted and compares: a web server says no in HTTP, so that the client can read why (gateways.md 1.1).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{self, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use super::credentials::{CredentialsError, write_private};

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be used for TLS ({why}); move the data directory away to have a new one made")]
pub struct TlsError {
    /// Which file.
    path: PathBuf,
    /// The library's words.
    why: String,
}

/// The authority's certificate beside the other keys, made with the server's if it is missing.
///
/// # Errors
/// [`CredentialsError`].
pub fn authority(keys: &Path) -> Result<PathBuf, CredentialsError> {
    let path = keys.join("emulator_ca.pem");
    if !path.exists() {
        let (authority, certificate, key) = make()?;
        write_private(&keys.join(SERVER_KEY), &key)?;
        write_private(&keys.join(SERVER_CERTIFICATE), &certificate)?;
        // Last: with it the other two are there.
        write_private(&path, &authority)?;
    }
    Ok(path)
}

/// What a listener needs. [`authority`] has made the files.
///
/// # Errors
/// [`TlsError`].
pub fn server_config(keys: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (path, key) = (keys.join(SERVER_CERTIFICATE), keys.join(SERVER_KEY));
    let unusable = |path: &Path, why: String| TlsError { path: path.to_owned(), why };
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| unusable(&key, error.to_string()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&path, error.to_string()))?
        .with_client_cert_verifier(Arc::new(Anybody(provider)))
        .with_single_cert(vec![certificate(&path)?], private)
        .map_err(|error| unusable(&path, error.to_string()))?;
    Ok(Arc::new(config))
}

/// The first certificate of a PEM file.
fn certificate(path: &Path) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_file(path)
        .map_err(|error| TlsError { path: path.to_owned(), why: error.to_string() })
}

/// A certificate's bytes, as [`crate::runtime::listen::OverTls`] has them.
///
/// # Errors
/// [`TlsError`].
pub fn der(path: &Path) -> Result<Bytes, TlsError> {
    Ok(Bytes::copy_from_slice(&certificate(path)?))
}

/// Authority, server certificate, server key, as PEM. The authority's own key is thrown away: it signs once.
fn make() -> Result<(String, String, String), rcgen::Error> {
    let named = |name: &str| {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Ok::<_, rcgen::Error>(params)
    };
    let mut authority = named("Shouyin emulator CA")?;
    authority.subject_alt_names.clear();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let authority_key = rcgen::KeyPair::generate()?;
    let pem = authority.self_signed(&authority_key)?.pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut server = named("Shouyin emulator")?;
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?.pem();
    Ok((pem, certificate, key.serialize_pem()))
}

/// Takes connections without a certificate and any certificate whose key the client has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const SERVER_CERTIFICATE: &str = "emulator_tls_certificate.pem";
const SERVER_KEY: &str = "emulator_tls_private_key.pem";
