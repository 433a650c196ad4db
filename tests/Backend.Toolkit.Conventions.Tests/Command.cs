using System.Collections;
using System.Diagnostics;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>Runs a program to its end within a limit; what it started is ended with it.</summary>
internal static class Command
{
    /// <returns>What the program wrote to its standard output.</returns>
    public static string Run(string folder, TimeSpan limit, string program, params IEnumerable<string> arguments)
    {
        string line = $"{program} {string.Join(' ', arguments)}";
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string inherited in Environment.GetEnvironmentVariables().Keys.Cast<string>().Where(IsOfAnOuterBuild))
        {
            start.Environment.Remove(inherited);
        }

        // No build server and no waiting worker may outlive the program or hold its output open.
        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["DOTNET_CLI_USE_MSBUILD_SERVER"] = "0";
        start.Environment["UseSharedCompilation"] = "false";

        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"Not started: {line}");
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        if (!Task.WaitAll([output, error, process.WaitForExitAsync()], limit))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"Not done within {limit}: {line}");
        }

        return process.ExitCode == 0
            ? output.Result
            : throw new InvalidOperationException($"Exit code {process.ExitCode}: {line}\n{output.Result}\n{error.Result}");
    }

    private static bool IsOfAnOuterBuild(string variable) =>
        variable.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase) || variable.StartsWith("TESTINGPLATFORM", StringComparison.OrdinalIgnoreCase);
}
