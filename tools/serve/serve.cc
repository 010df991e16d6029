#include "tools/serve/serve.h"

#include <fmt/format.h>

#include <thread>

#include "runtime/core/interrupt.h"
#include "tools/serve/service.h"

namespace thermocline {

void Serve(const ServeOptions& options, const std::function<void(const std::string&)>& say) {
  Service service(options);
  HttpServer server(options.host, options.port, options.http, service);
  const std::string url = fmt::format("http://{}:{}", options.host, server.port());
  say(fmt::format("listening on {}; loading the model\n", url));
  service.Load();
  say(fmt::format("ready: {}\n", url));
  while (!InterruptRequested()) {
    service.Tick();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  say("stopping: what runs may end\n");
  service.Close();
  if (!server.Drain()) say("stopped what had not ended\n");
}

}  // namespace thermocline
