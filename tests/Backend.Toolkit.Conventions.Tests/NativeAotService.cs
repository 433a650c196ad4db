using System.Reflection;
using System.Runtime.InteropServices;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary><c>tests/NativeAot</c>, compiled ahead of time once for all tests, into a temporary folder.</summary>
public sealed class NativeAotService : IDisposable
{
    private static string Configuration { get; } = typeof(NativeAotService).Assembly.GetCustomAttribute<AssemblyConfigurationAttribute>()!.Configuration;

    private readonly string _folder = Directory.CreateTempSubdirectory("backend-toolkit-native-").FullName;

    public NativeAotService()
    {
        try
        {
            // Built by the build of all; here it is only compiled to machine code.
            Output = Command.Run(Repository.Root, TimeSpan.FromMinutes(15), "dotnet", "publish", Repository.Absolute("tests/NativeAot/NativeAot.csproj"),
                "--configuration", Configuration, "--no-build", "--nologo", "--output", Path.Combine(_folder, "published"));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What the publication printed.</summary>
    public string Output { get; }

    public string Program => Path.Combine(_folder, "published", "NativeAot");

    /// <summary>The same service as it was built: <c>dotnet</c> compiles it while it runs.</summary>
    public string CompiledAtRunTime => Repository.Absolute($"artifacts/bin/NativeAot/{Configuration.ToLowerInvariant()}_{RuntimeInformation.RuntimeIdentifier}/NativeAot.dll");

    /// <summary>An empty folder for a service's files.</summary>
    public string NewDataFolder() => Directory.CreateDirectory(Path.Combine(_folder, Guid.NewGuid().ToString("N"))).FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
