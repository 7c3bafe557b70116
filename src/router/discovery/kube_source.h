// Workers from the pods of a Kubernetes cluster: the requests of PodFollower on a connection to the
// API server, and its answers into the registry.
#pragma once

#include <functional>
#include <memory>

#include <boost/asio/awaitable.hpp>

#include "http/client.h"
#include "router/discovery/owned_workers.h"
#include "router/discovery/pod_follower.h"

namespace baton::router {

namespace asio = boost::asio;

// Fills api_url, token_file and ca_file from what a pod finds in its container, where they are not
// given. kInvalidArgument outside of a cluster without api_url, with the way out.
Status FindApiServer(KubeOptions* options);

// How the API server is spoken to.
http::ClientOptions ApiClientOptions(const KubeOptions& options);

struct KubeSource {
  KubeOptions options;  // as FindApiServer left them
  bool pd = false;
  std::shared_ptr<OwnedWorkers> workers;
  std::function<void()> synced;  // after the first complete list
};

// Runs until it is cancelled.
asio::awaitable<void> FollowPods(asio::any_io_executor executor, KubeSource source);

}  // namespace baton::router
