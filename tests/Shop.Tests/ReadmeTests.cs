using System.Diagnostics;
using System.Text.RegularExpressions;
using Backend.Toolkit.Tests;

namespace Shop.Tests;

/// <summary>What the README tells people to paste into a shell.</summary>
public sealed partial class ReadmeTests
{
    /// <summary>Around the pasted lines: <c>dotnet run</c> starts the shop that is built already, and each <c>curl</c> is written down with its exit code and its status.</summary>
    private const string Prelude = """
        set -u
        trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
        dotnet() { while [[ $1 != -- ]]; do shift; done; exec dotnet "$PROGRAM" "${@:2}"; }
        curl() {
          command curl --silent --show-error --max-time 30 --dump-header "$FOLDER/headers" "$@"
          echo "$? $(sed -n 's/^HTTP[^ ]* \([0-9]*\).*/\1/p' "$FOLDER/headers" | tail -n 1) $*" >> "$FOLDER/calls"
        }

        """;

    [Fact]
    public async Task Every_line_with_curl_works_when_it_is_pasted()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using RedisServer redis = await RedisServer.StartAsync();
        string[] blocks = [.. Block().Matches(await File.ReadAllTextAsync(ReadmePath())).Select(match => match.Groups["lines"].Value).Where(lines => Asks().IsMatch(lines) && !lines.Contains("--only", StringComparison.Ordinal))]; // several processes on one database: InstancesTests
        string lines = string.Join('\n', blocks);
        foreach ((string name, HttpClient client) in new[] { ("SHOP", shop.Client), ("PAYMENTS", shop.Payments), ("CUSTOMER", shop.Customer) })
        {
            lines = Regex.Replace(lines, $"(?<=^{name}=).*", client.BaseAddress!.OriginalString.TrimEnd('/'), RegexOptions.Multiline);
        }

        lines = lines.Replace("localhost:6379", redis.ConnectionString, StringComparison.Ordinal)
            .Replace("127.0.0.1:5081", $"127.0.0.1:{RedisServer.FreePort()}", StringComparison.Ordinal)
            .Replace("127.0.0.1:5082", $"127.0.0.1:{RedisServer.FreePort()}", StringComparison.Ordinal);

        (string output, string[] calls) = await PasteAsync(lines);

        int written = blocks.Sum(block => Curl().Count(block));
        calls.Should().HaveCountGreaterThanOrEqualTo(written).And.HaveCountGreaterThanOrEqualTo(20);
        calls.Where(call => !Works().IsMatch(call)).Should().BeEmpty("each is answered, and by what was asked for; all printed\n{0}", output);
        calls.Where(call => call.Contains("Idempotency-Key: first", StringComparison.Ordinal)).Select(call => call.Split(' ')[1]).Should().Equal("201", "201", "422");
        calls.Last(call => call.Contains("Idempotency-Key: second", StringComparison.Ordinal)).Should().StartWith("0 201 ", "payments are well again by then");
        output.Should().Contain("Idempotent-Replayed: true").And.Contain("RateLimit: ").And.NotContain("unbound variable");
    }

    private static async Task<(string Output, string[] Calls)> PasteAsync(string lines)
    {
        string folder = Directory.CreateTempSubdirectory("backend-toolkit-shop-").FullName;
        var start = new ProcessStartInfo("bash", ["-c", Prelude + lines]) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["FOLDER"] = folder;
        start.Environment["PROGRAM"] = Path.Combine(AppContext.BaseDirectory, "Shop.dll");
        using Process shell = Process.Start(start)!;
        try
        {
            Task<string> output = shell.StandardOutput.ReadToEndAsync();
            Task<string> error = shell.StandardError.ReadToEndAsync();
            await Task.WhenAll(output, error).WaitAsync(TimeSpan.FromMinutes(3), TimeProvider.System);
            return (output.Result + error.Result, await File.ReadAllLinesAsync(Path.Combine(folder, "calls")));
        }
        finally
        {
            shell.Kill(entireProcessTree: true);
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string ReadmePath()
    {
        DirectoryInfo folder = new(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "Backend.Toolkit.sln")))
        {
            folder = folder.Parent!;
        }

        return Path.Combine(folder.FullName, "samples", "Shop", "README.md");
    }

    [GeneratedRegex(@"^```sh\n(?<lines>.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Block();

    /// <summary>A call, or the address of one.</summary>
    [GeneratedRegex(@"\bcurl |^(SHOP|PAYMENTS|CUSTOMER)=", RegexOptions.Multiline)]
    private static partial Regex Asks();

    [GeneratedRegex(@"\bcurl ")]
    private static partial Regex Curl();

    /// <summary>Exit code 0, and a status that the README speaks of: not that there is no such address, method or form.</summary>
    [GeneratedRegex("^0 (200|201|204|302|400|402|409|422|429|502|503|504) ")]
    private static partial Regex Works();
}
