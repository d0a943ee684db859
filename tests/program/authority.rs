//! A certificate authority of a test's own, and a server that speaks TLS in front of one that does not.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::place::Output;

/// Its files lie in a folder of the test.
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: PathBuf) -> Self {
        fs_err::create_dir(&folder).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let authority = Self { folder };
        authority.openssl(&format!("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN={name} -days 2"));
        authority
    }

    /// Whom clients shall trust.
    pub(crate) fn file(&self) -> String {
        self.folder.join("ca.pem").to_str().unwrap().to_owned()
    }

    /// A certificate for these names (`DNS:localhost`) and its key.
    pub(crate) fn sign(&self, names: &str) -> (PathBuf, PathBuf) {
        fs_err::write(self.folder.join("leaf.ext"), format!("subjectAltName={names}\n")).unwrap();
        self.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf");
        self.openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile leaf.ext");
        (self.folder.join("leaf.pem"), self.folder.join("leaf.key"))
    }

    fn openssl(&self, line: &str) {
        let mut openssl = Command::new("openssl");
        Output::of(openssl.args(line.split(' ')).current_dir(&self.folder)).success();
    }
}

/// A program in Python that says its port first; ended when it is dropped.
pub(crate) struct Script {
    child: Child,
    pub(crate) port: String,
}

impl Script {
    pub(crate) fn start(text: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", text]).args(arguments).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        assert!(!port.trim().is_empty(), "the script said no port");
        Self { child, port: port.trim().to_owned() }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Bytes pass unchanged, so that signatures hold.
const TLS: &str = "
import asyncio, ssl, sys

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    behind = await asyncio.open_connection('127.0.0.1', int(sys.argv[3]))
    await asyncio.gather(pump(reader, behind[1]), pump(behind[0], writer))

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server = await asyncio.start_server(serve, '127.0.0.1', 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
";

/// TLS in front of a port of this machine.
pub(crate) fn with_tls(port: &str, certificate: &Path, key: &Path) -> Script {
    Script::start(TLS, &[certificate.to_str().unwrap(), key.to_str().unwrap(), port])
}
