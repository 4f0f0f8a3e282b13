#include "processors.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>

namespace fastnn {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "150000 100000" or "max 100000"; 0: no limit.
double granted_v2(const std::string& folder) {
  const std::string line = first_line(folder + "/cpu.max");
  const size_t space = line.find(' ');
  const double period = space == std::string::npos ? 1e5 : std::atof(line.c_str() + space);
  return line.rfind("max", 0) == 0 || period <= 0 ? 0 : std::max(0.0, std::atof(line.c_str()) / period);
}

double granted_v1(const std::string& folder) {
  const double granted = std::atof(first_line(folder + "/cpu.cfs_quota_us").c_str());
  const double period = std::atof(first_line(folder + "/cpu.cfs_period_us").c_str());
  return granted > 0 && period > 0 ? granted / period : 0;
}

// The least of a group and those around it. In a container the path may be the host's, which is not there: its own group is the root then.
double least(double (*granted)(const std::string&), const std::string& mount, std::string path) {
  double found = 0;
  for (;;) {
    if (const double here = granted(mount + path); here > 0 && (found == 0 || here < found)) found = here;
    const size_t slash = path.find_last_of('/');
    if (slash == std::string::npos) return found;
    path.erase(slash);
  }
}

// CPUs of the mask, and how many physical cores they are.
void affinity(int& cpus, int& cores) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  cpus = cores = 1;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return;
  cpus = std::max(1, CPU_COUNT(&mask));
  std::set<std::string> siblings;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &mask)) {
      const std::string line = first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      siblings.insert(line.empty() ? "cpu " + std::to_string(cpu) : line);
    }
  cores = std::max<int>(1, int(siblings.size()));
}

// 0: no limit.
int quota(const std::string& root) {
  std::string v2 = "/", v1 = "/";
  std::ifstream groups(root + "/proc/self/cgroup");  // "0::/path" of version 2, "4:cpu,cpuacct:/path" of version 1
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",", path = line.substr(second + 1);
    if (controllers == ",,") v2 = path;
    if (controllers.find(",cpu,") != std::string::npos) v1 = path;
  }
  const std::string mount = root + "/sys/fs/cgroup";
  double granted = 0;
  for (const double found :
       {least(granted_v2, mount, v2), least(granted_v1, mount + "/cpu", v1), least(granted_v1, mount + "/cpu,cpuacct", v1)})
    if (found > 0 && (granted == 0 || found < granted)) granted = found;
  return granted > 0 && granted < CPU_SETSIZE ? std::max(1, int(granted + 0.999)) : 0;  // more is none
}

}  // namespace

int Limits::least() const { return std::min({cpus, cores, quota ? quota : cpus}); }

std::string Limits::text() const {
  return "min of " + std::to_string(cpus) + " CPUs allowed, " + std::to_string(cores) + " physical cores, " +
         (quota ? "a control-group quota of " + std::to_string(quota) : std::string("no control-group quota"));
}

Limits thread_limits(const std::string& root) {
  Limits limits{1, 1, quota(root)};
  affinity(limits.cpus, limits.cores);
  return limits;
}

}  // namespace fastnn
