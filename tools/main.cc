// The program: verbs, signals, and from exceptions to exit codes.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "runtime/core/bus_error.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "tools/reports/messages.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/help_formatter.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kInterrupted = 130;
// The exit code is as shells show it: 143 for SIGTERM, 129 for SIGHUP.
constexpr int kTerminatedBase = 128;

// The first Ctrl-C asks the work to stop, which it does at the next safe place and cleans up. A
// second one, when that takes too long, leaves at once. A request to terminate does what the first
// does, so that temporary files go away then, too, and ends a session.
extern "C" void OnSignal(int signal_number) {
  if (signal_number != SIGINT) return RequestTermination(signal_number);
  if (RequestInterrupt() > 1) ::_exit(kInterrupted);
}

void InstallSignalHandlers() {
  InstallBusErrorHandler();
  (void)::signal(SIGXFSZ, SIG_IGN);  // a file too large for `ulimit -f` fails its write() instead
  struct sigaction action {};
  action.sa_handler = OnSignal;  // without SA_RESTART: a read that waits for the user must end
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction inherited {};
    ::sigaction(signal_number, nullptr, &inherited);
    // What nohup and background jobs ignore stays ignored.
    if (inherited.sa_handler != SIG_IGN) ::sigaction(signal_number, &action, nullptr);
  }
}

// Where a standard stream is closed, its number would go to the next file opened, and messages into
// that file. /dev/null takes the place, the wrong way round, so that using it fails as before; but
// stderr may be written, since notes that nobody wants are no failure.
void OccupyStandardStreams() {
  constexpr int kModes[] = {O_WRONLY, O_RDONLY, O_WRONLY};
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", kModes[fd]) != fd) ::_exit(kFailed);
  }
}

void PrintError(std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  PrintNote(fmt::format("thermocline: {}\n", message));
}

int ReportInterrupt() {
  const int signal_number = TerminationSignal();
  PrintError(signal_number == 0 ? "interrupted" : "terminated");
  return signal_number == 0 ? kInterrupted : kTerminatedBase + signal_number;
}

// Returns the verb that was named, or "".
std::string NamedVerb(const CLI::App& app) {
  const auto verbs = app.get_subcommands();
  return verbs.empty() ? "" : verbs.front()->get_name();
}

// Returns what to type for help, for "see ...".
std::string HelpCommand(const CLI::App& app) {
  const std::string verb = NamedVerb(app);
  return "`thermocline " + verb + (verb.empty() ? "" : " ") + "--help`";
}

int ReportParseOutcome(const CLI::App& app, const CLI::ParseError& outcome) {
  if (outcome.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
    return app.exit(outcome);  // --help, --version
  }
  std::string what = outcome.what();
  if (app.get_subcommands().empty()) {
    const std::vector<std::string> rest = app.remaining();
    what = rest.empty() ? "which verb?" : "no such verb or option: " + Printable(rest.front());
  }
  PrintError(fmt::format("{}; see {}", what, HelpCommand(app)));
  return kUsage;
}

// Adds the verbs in the order in which --help lists them.
void AddVerbs(CLI::App& app) {
  AddRunVerb(app);
  AddServeVerb(app);
  AddProfileVerb(app);
  AddPlaceVerb(app);
  AddPredictorVerb(app);
  AddDraftsVerb(app);
  AddBenchVerb(app);
  AddPerplexityVerb(app);
  AddEvalVerb(app);
  AddInspectVerb(app);
  AddCalibrateVerb(app);
  AddTokenizeVerb(app);
  AddConvertVerb(app);
  AddQuantizeVerb(app);
  AddPackVerb(app);
  AddSynthVerb(app);
  AddRenderVerb(app);
}

int Run(CLI::App& app, int argc, char** argv) {
  try {
    std::vector<std::string> arguments = NormaliseArguments(argc, argv);
    std::reverse(arguments.begin(), arguments.end());  // the order CLI11 wants
    app.parse(std::move(arguments));
    WriteOutput("");  // fails where a verb printed and could not
    return 0;
  } catch (const CLI::ParseError& outcome) {
    return ReportParseOutcome(app, outcome);
  } catch (const Interrupted&) {
    return ReportInterrupt();
  } catch (const std::bad_alloc&) {
    PrintError(
        "out of memory: the system gave no more; a smaller -c or -b needs less, and "
        "`thermocline run --dry-run` shows what a model needs");
    return kFailed;
  } catch (const Error& error) {
    PrintError(ErrorText(error, NamedVerb(app)));
    return kFailed;
  } catch (const std::exception& error) {
    PrintError(std::string("unexpected error: ") + error.what());
    return kFailed;
  }
}

int Main(int argc, char** argv) {
  OccupyStandardStreams();
  InstallSignalHandlers();
  CLI::App app(
      WrapText("Runs large language models on small GPUs: neurons that fire often lie on the fast "
               "tier, the others where there is room, and only those that fire are computed.",
               100, 0),
      "thermocline");
  const auto formatter = std::make_shared<HelpFormatter>();
  formatter->label("SUBCOMMAND", "VERB");
  formatter->label("Subcommands", "Verbs");
  app.formatter(formatter);
  app.set_version_flag("--version", "thermocline " THERMOCLINE_VERSION);
  app.require_subcommand(1);
  app.footer("`thermocline VERB --help` describes a verb.");
  AddVerbs(app);
  return Run(app, argc, argv);
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) { return thermocline::Main(argc, argv); }
