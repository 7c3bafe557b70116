"""A Kubernetes API server for tests: list and watch of pods, with the faults of real ones."""
import http.server
import json
import threading
import urllib.parse


class FakeKube:
    def __init__(self, token="t0"):
        self.lock = threading.Condition()
        self.pods, self.events, self.version, self.oldest = {}, [], 10, 0
        self.token, self.lists, self.watches, self.breaks, self.half_line = token, 0, 0, 0, False
        kube = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                if self.headers.get("Authorization") != f"Bearer {kube.token}":
                    self.answer(401, {"kind": "Status", "code": 401, "message": "Unauthorized"})
                elif url.path != "/api/v1/namespaces/llm/pods":
                    self.answer(403, {"kind": "Status", "code": 403, "message": "pods is forbidden"})
                elif query.get("watch") == "1":
                    self.watch(int(query["resourceVersion"]))
                else:
                    self.list(int(query.get("limit", 10**9)), int(query.get("continue", 0)))

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def list(self, limit, begin):
                with kube.lock:
                    kube.lists += 1
                    pods = [kube.pods[uid] for uid in sorted(kube.pods)]
                    metadata = {"resourceVersion": str(kube.version)}
                if begin + limit < len(pods):
                    metadata["continue"] = str(begin + limit)
                self.answer(200, {"kind": "PodList", "metadata": metadata, "items": pods[begin:begin + limit]})

            def chunk(self, data):
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

            def watch(self, version):
                with kube.lock:
                    kube.watches += 1
                    breaks, gone = kube.breaks, version < kube.oldest
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    if gone:
                        self.chunk(b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}\n')
                    while not gone:
                        with kube.lock:
                            fresh = [(at, e) for at, e in kube.events if at > version]
                            if not fresh and kube.breaks == breaks:
                                kube.lock.wait(1)
                            broken = kube.breaks != breaks
                        for at, event in fresh:
                            version = at
                            self.chunk(json.dumps(event).encode() + b"\n")
                        if broken:
                            if kube.half_line:
                                self.chunk(b'{"type":"DELETED","object":{"meta')
                                self.close_connection = True
                                return
                            break
                    self.chunk(b"")
                except OSError:
                    self.close_connection = True

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _tell(self, kind, pod):
        self.version += 1
        pod["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, {"type": kind, "object": json.loads(json.dumps(pod))}))
        self.lock.notify_all()

    def put(self, uid, role, port, ready=True, deleting=False, bootstrap=8998):
        with self.lock:
            metadata = {"uid": uid, "name": uid, "namespace": "llm", "creationTimestamp": "2026-01-01T00:00:00Z",
                        "labels": {"role": role},
                        "annotations": {"baton/http-port": str(port), "sglang.ai/bootstrap-port": str(bootstrap)}}
            if deleting:
                metadata["deletionTimestamp"] = "2026-01-01T00:01:00Z"
            pod = {"metadata": metadata, "status": {
                "podIP": "127.0.0.1", "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}}
            kind = "MODIFIED" if uid in self.pods else "ADDED"
            self.pods[uid] = pod
            self._tell(kind, pod)

    def delete(self, uid):
        with self.lock:
            self._tell("DELETED", self.pods.pop(uid))

    def break_watches(self, half_line=False, compact=False):
        with self.lock:
            self.half_line = half_line
            self.breaks += 1
            if compact:
                self.version += 1
                self.oldest = self.version
                self.events.clear()
            self.lock.notify_all()

    def close(self):
        self.break_watches()
        self.server.shutdown()
        self.server.server_close()
