//! Kafka's wire protocol: one connection, one request at a time.

use std::{collections::BTreeMap, io, time::Duration};

use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreateAclsRequest, CreateAclsResponse,
        CreateTopicsRequest, CreateTopicsResponse, DeleteAclsRequest, DeleteAclsResponse,
        DescribeAclsRequest, DescribeAclsResponse, MetadataRequest, MetadataResponse,
        RequestHeader, ResponseHeader,
    },
    protocol::{
        Decodable, Encodable, HeaderVersion, Message, StrBytes, VersionRange,
        encode_request_header_into_buffer,
    },
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{config::Config, error::KafkaError, tls};

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
/// Longer than the description of any cluster of ours; a length beyond it is no length.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A request with the answer that belongs to it.
pub(super) trait Call: Message + Encodable {
    /// Its number.
    const API: ApiKey;
    /// What comes back.
    type Answer: Decodable + HeaderVersion;
}

macro_rules! calls {
    ($($api:ident: $request:ty => $answer:ty;)*) => {
        $(impl Call for $request {
            const API: ApiKey = ApiKey::$api;
            type Answer = $answer;
        })*
    };
}

calls! {
    ApiVersions: ApiVersionsRequest => ApiVersionsResponse;
    Metadata: MetadataRequest => MetadataResponse;
    CreateTopics: CreateTopicsRequest => CreateTopicsResponse;
    DescribeAcls: DescribeAclsRequest => DescribeAclsResponse;
    CreateAcls: CreateAclsRequest => CreateAclsResponse;
    DeleteAcls: DeleteAclsRequest => DeleteAclsResponse;
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to one broker. Any will do: brokers pass on to the controller what it decides.
pub(super) struct Connection {
    broker: String,
    stream: Box<dyn Stream>,
    versions: BTreeMap<i16, VersionRange>,
    sent: i32,
}

impl Connection {
    /// Connects to the first broker that answers.
    ///
    /// # Errors
    /// None answers, or a certificate file cannot be used.
    pub(super) async fn open(config: &Config) -> Result<Self, KafkaError> {
        let mut failure = KafkaError::Protocol("no broker is named".to_owned());
        for broker in config.brokers.split(',').map(str::trim) {
            match Self::to(broker, config).await {
                Ok(connection) => return Ok(connection),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn to(broker: &str, config: &Config) -> Result<Self, KafkaError> {
        let unreachable = |source| KafkaError::Unreachable { broker: broker.to_owned(), source };
        let stream: Box<dyn Stream> = match (&config.tls_identity, &config.tls_roots) {
            (Some(identity), Some(roots)) => {
                let connector = TlsConnector::from(tls::client(identity, roots)?);
                let name = server_name(broker).map_err(unreachable)?;
                let handshake =
                    async { connector.connect(name, TcpStream::connect(broker).await?).await };
                Box::new(within(CONNECT, handshake).await.map_err(unreachable)?)
            }
            _ => Box::new(within(CONNECT, TcpStream::connect(broker)).await.map_err(unreachable)?),
        };
        let broker = broker.to_owned();
        let mut connection = Self { broker, stream, versions: BTreeMap::new(), sent: 0 };
        connection.versions = connection.known_versions().await?;
        Ok(connection)
    }

    /// Version 0 of this one question is understood by every broker.
    async fn known_versions(&mut self) -> Result<BTreeMap<i16, VersionRange>, KafkaError> {
        let answer = self.exchange(&ApiVersionsRequest::default(), 0).await?;
        KafkaError::check(answer.error_code, None, "tell its versions")?;
        let range = |min, max| VersionRange { min, max };
        let versions = answer.api_keys.iter();
        Ok(versions.map(|api| (api.api_key, range(api.min_version, api.max_version))).collect())
    }

    /// Asks in the newest version that both sides know.
    ///
    /// # Errors
    /// The connection breaks, or the broker does not know this request.
    pub(super) async fn call<C: Call>(&mut self, request: &C) -> Result<C::Answer, KafkaError> {
        let theirs = self.versions.get(&(C::API as i16));
        let common = theirs.map(|theirs| theirs.intersect(&C::VERSIONS));
        let Some(common) = common.filter(|common| !common.is_empty()) else {
            let problem = format!("the broker's version of {:?} is not known here", C::API);
            return Err(KafkaError::Protocol(problem));
        };
        self.exchange(request, common.max).await
    }

    async fn exchange<C: Call>(
        &mut self,
        request: &C,
        version: i16,
    ) -> Result<C::Answer, KafkaError> {
        self.sent += 1;
        let frame = frame(request, version, self.sent).map_err(protocol)?;
        let exchange = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await?;
            read_frame(&mut self.stream).await
        };
        let answer = within(ANSWER, exchange).await;
        let answer = answer
            .map_err(|source| KafkaError::Unreachable { broker: self.broker.clone(), source })?;
        let mut rest = answer.as_slice();
        let header = ResponseHeader::decode(&mut rest, C::Answer::header_version(version));
        if header.map_err(protocol)?.correlation_id != self.sent {
            return Err(KafkaError::Protocol("the answer is to another question".to_owned()));
        }
        C::Answer::decode(&mut rest, version).map_err(protocol)
    }
}

fn frame<C: Call>(request: &C, version: i16, id: i32) -> Result<Vec<u8>, impl std::fmt::Display> {
    let header = RequestHeader::default()
        .with_request_api_key(C::API as i16)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(StrBytes::from_static_str("portolan")));
    let mut body = vec![0; 4];
    encode_request_header_into_buffer(&mut body, &header)?;
    request.encode(&mut body, version)?;
    let length = u32::try_from(body.len() - 4)?;
    body[..4].copy_from_slice(&length.to_be_bytes());
    anyhow::Ok(body)
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > MAX_ANSWER {
        return Err(io::Error::other("this is not Kafka's protocol"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn server_name(broker: &str) -> io::Result<ServerName<'static>> {
    let host = broker.rsplit_once(':').map_or(broker, |(host, _port)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).map_err(io::Error::other)
}

fn protocol(error: impl std::fmt::Display) -> KafkaError {
    KafkaError::Protocol(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_to_verify_is_the_one_dialled() {
        for (broker, name) in [
            ("kafka-0.kafka.shop.svc:9092", "kafka-0.kafka.shop.svc"),
            ("127.0.0.1:9092", "127.0.0.1"),
            ("[::1]:9092", "::1"),
        ] {
            assert_eq!(server_name(broker).unwrap().to_str(), name);
        }
    }

    #[tokio::test]
    async fn what_is_no_kafka_answer_is_not_waited_for() {
        let mut http = b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice();
        let error = read_frame(&mut http).await.unwrap_err();
        assert_eq!(error.to_string(), "this is not Kafka's protocol");
    }
}
