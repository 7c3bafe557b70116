#include "cli/discovery_flags.h"

namespace baton::cli {

void AddDiscoveryFlags(CLI::App& c, DiscoveryFlags& f) {
  auto& kube = f.options.kube;
  c.add_flag("--service-discovery", kube.enabled, "Workers from the pods of a Kubernetes cluster");
  c.add_option("--selector", f.selector, "Labels of the pods that are workers, regular mode")->type_name("KEY=VALUE...");
  c.add_option("--prefill-selector", f.prefill_selector, "Labels of the pods that are prefill workers")->type_name("KEY=VALUE...");
  c.add_option("--decode-selector", f.decode_selector, "Labels of the pods that are decode workers")->type_name("KEY=VALUE...");
  c.add_option("--service-discovery-port", kube.port, "Port of the workers, unless a pod says otherwise")->capture_default_str();
  c.add_option("--service-discovery-namespace", kube.space, "Namespace of the pods; default: all of them");
  c.add_option("--service-discovery-port-annotation", kube.port_annotation, "Annotation or label with a pod's port, or several with commas")->capture_default_str();
  c.add_option("--bootstrap-port-annotation", kube.bootstrap_annotation, "Annotation or label with a prefill pod's bootstrap port, or one for each of its ports")->capture_default_str();
  c.add_option("--kube-api", kube.api_url, "URL of the API server; default: the one of this pod's cluster")->type_name("URL");
  c.add_option("--kube-token-file", kube.token_file, "Token for the API server; read for each request")->type_name("FILE");
  c.add_option("--kube-ca-file", kube.ca_file, "Authorities that the API server's certificate may come from")->type_name("FILE");
  c.add_option("--prefill-dns", f.prefill_dns, "Every address of the name is a prefill worker; repeatable")->type_name("NAME:PORT|_PORT._tcp.NAME");
  c.add_option("--decode-dns", f.decode_dns, "Every address of the name is a decode worker; repeatable")->type_name("NAME:PORT|_PORT._tcp.NAME");
  c.add_option("--worker-dns", f.worker_dns, "Every address of the name is a worker, regular mode; repeatable")->type_name("NAME:PORT|_PORT._tcp.NAME");
  c.add_option("--dns-interval-secs", f.dns_interval_s, "Time between two look-ups of a name")->capture_default_str();
  c.add_option("--dns-resolver", f.options.dns.resolver, "Name server instead of those of /etc/resolv.conf")->type_name("ADDRESS:PORT");
  c.add_option("--workers-file", f.options.workers_file, "JSON list of workers as POST /workers takes them; followed when it changes")->type_name("FILE");
}

Result<router::DiscoveryOptions> ToDiscoveryOptions(const DiscoveryFlags& f) {
  router::DiscoveryOptions o = f.options;
  struct Labels {
    const char* flag;
    const std::vector<std::string>& words;
    router::Selector* out;
  };
  for (const Labels& l : {Labels{"--selector", f.selector, &o.kube.selector},
                          Labels{"--prefill-selector", f.prefill_selector, &o.kube.prefill_selector},
                          Labels{"--decode-selector", f.decode_selector, &o.kube.decode_selector}}) {
    if (Status s = router::ParseSelector(l.words, l.out); !s.ok()) return s.Prefixed(l.flag);
  }
  struct Names {
    const char* flag;
    const std::vector<std::string>& words;
    std::vector<router::DnsName>* out;
  };
  for (const Names& n : {Names{"--prefill-dns", f.prefill_dns, &o.dns.prefill}, Names{"--decode-dns", f.decode_dns, &o.dns.decode},
                         Names{"--worker-dns", f.worker_dns, &o.dns.regular}}) {
    for (const std::string& word : n.words) {
      auto name = router::ParseDnsName(word);
      if (!name.ok()) return name.status().Prefixed(n.flag);
      n.out->push_back(std::move(*name));
    }
  }
  o.dns.interval = std::chrono::milliseconds(static_cast<int64_t>(f.dns_interval_s * 1000));
  return o;
}

}  // namespace baton::cli
