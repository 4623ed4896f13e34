"""A pipe into TLS over the kernel's SCTP: what comes in goes out at the other end.

usage: tls.py connect|listen ADDRESS PORT DIRECTORY

The directory has cert.pem, key.pem and ca.pem, as rsp ca issue makes them.
"""
import os, select, socket, ssl, sys

role, address, port, directory = sys.argv[1:]
connects = role == "connect"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if connects else ssl.PROTOCOL_TLS_SERVER)
context.check_hostname = False  # names of hosts mean nothing here
context.verify_mode = ssl.CERT_REQUIRED
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_verify_locations(directory + "/ca.pem")
context.load_cert_chain(directory + "/cert.pem", directory + "/key.pem")

s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
if connects:
    s.connect((address, int(port)))
else:
    s.bind((address, int(port)))
    s.listen()
    s, _ = s.accept()
tls = context.wrap_socket(s, server_side=not connects)
names = [value for kind, value in tls.getpeercert()["subjectAltName"] if kind == "URI"]
print(tls.version(), *names, file=sys.stderr, flush=True)
while True:
    ready, _, _ = select.select([tls, 0], [], [])
    if tls in ready:
        data = tls.recv(16384)
        while tls.pending():
            data += tls.recv(16384)
        if not data:
            break
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            tls.unwrap()  # close_notify both ways
            break
        tls.sendall(data)
