// Certificates for tests, made when they are needed: authorities, hosts, clients, expired ones.
#pragma once

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace baton::http::test {

// A key and a certificate, made here; `issuer` signs it, or it signs itself.
struct Identity {
  std::shared_ptr<EVP_PKEY> key{EVP_EC_gen("P-256"), EVP_PKEY_free};
  std::shared_ptr<X509> certificate{X509_new(), X509_free};
};

struct Wanted {
  std::string name = "baton test";
  std::string hosts = "DNS:localhost,IP:127.0.0.1";  // "" for an authority
  long begins_s = -3600, ends_s = 3600;              // from now
};

inline Identity MakeIdentity(const Wanted& wanted, const Identity* issuer = nullptr) {
  static std::atomic<long> serial{1};
  Identity made;
  X509* x = made.certificate.get();
  X509_set_version(x, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
  X509_gmtime_adj(X509_getm_notBefore(x), wanted.begins_s);
  X509_gmtime_adj(X509_getm_notAfter(x), wanted.ends_s);
  X509_set_pubkey(x, made.key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(wanted.name.c_str()), -1, -1, 0);
  X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer->certificate.get() : x));
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer ? issuer->certificate.get() : x, x, nullptr, nullptr, 0);
  const auto add = [&](int nid, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
    X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
  };
  add(NID_basic_constraints, wanted.hosts.empty() ? "critical,CA:TRUE" : "CA:FALSE");
  if (!wanted.hosts.empty()) add(NID_subject_alt_name, wanted.hosts.c_str());
  X509_sign(x, issuer ? issuer->key.get() : made.key.get(), EVP_sha256());
  return made;
}

// A folder of PEM files that goes away with the test.
class Files {
 public:
  Files() {
    std::string name = (std::filesystem::temp_directory_path() / "baton_tls_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~Files() { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string Write(const std::string& name, const std::string& text) const {
    // As Kubernetes does: a new file takes the old one's place.
    std::ofstream(Path(name + ".new")) << text;
    std::filesystem::rename(Path(name + ".new"), Path(name));
    return Path(name);
  }
  std::string Certificate(const std::string& name, const Identity& identity) const {
    return Write(name, Pem([&](BIO* bio) { PEM_write_bio_X509(bio, identity.certificate.get()); }));
  }
  std::string Key(const std::string& name, const Identity& identity, const char* password = nullptr) const {
    return Write(name, Pem([&](BIO* bio) {
      PEM_write_bio_PrivateKey(bio, identity.key.get(), password ? EVP_aes_128_cbc() : nullptr,
                               nullptr, 0, nullptr, const_cast<char*>(password));
    }));
  }

 private:
  template <typename Fill>
  static std::string Pem(Fill fill) {
    BIO* bio = BIO_new(BIO_s_mem());
    fill(bio);
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio, &text);
    std::string copy(text, static_cast<size_t>(size));
    BIO_free(bio);
    return copy;
  }
  std::filesystem::path folder_;
};

}  // namespace baton::http::test
