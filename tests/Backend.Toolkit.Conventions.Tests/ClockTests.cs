using System.Reflection;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>Time is a <see cref="TimeProvider"/>, in the packages and in their tests.</summary>
public sealed partial class ClockTests
{
    [Fact]
    public void Only_a_file_called_Clock_reads_the_coarse_tick()
    {
        (string File, string Text)[] readings = [.. Repository.Sources
            .Where(file => file.StartsWith("src/", StringComparison.Ordinal))
            .SelectMany(file => Repository.CodeLines(file).Where(line => Tick().IsMatch(line.Text)).Select(line => (file, line.Text)))];

        IEnumerable<string> offenders = readings.Select(reading => reading.File).Where(file => Path.GetFileName(file) != "Clock.cs");

        readings.Should().NotBeEmpty();
        offenders.ShouldBeNone();
    }

    [Fact]
    public void The_ambient_clocks_and_sleeps_are_banned()
    {
        string[] banned = BannedSymbols();

        banned.Should().Contain([
            "P:System.DateTime.Now",
            "P:System.DateTime.UtcNow",
            "P:System.DateTimeOffset.Now",
            "P:System.DateTimeOffset.UtcNow",
            "T:System.Diagnostics.Stopwatch",
            "T:System.Timers.Timer",
            "M:System.Threading.Thread.Sleep(System.Int32)",
            "M:System.Threading.Thread.Sleep(System.TimeSpan)",
            "M:System.Threading.Tasks.Task.Delay(System.Int32)",
            "M:System.Threading.Tasks.Task.Delay(System.Int32,System.Threading.CancellationToken)",
            "M:System.Threading.Tasks.Task.Delay(System.TimeSpan)",
            "M:System.Threading.Tasks.Task.Delay(System.TimeSpan,System.Threading.CancellationToken)",
            "M:System.Threading.CancellationTokenSource.#ctor(System.Int32)",
            "M:System.Threading.CancellationTokenSource.#ctor(System.TimeSpan)",
        ]);
    }

    [Fact]
    public void Every_banned_symbol_exists()
    {
        string[] banned = BannedSymbols();

        IEnumerable<string> unknown = banned.Where(symbol => !Exists(symbol));

        unknown.ShouldBeNone("a misspelt symbol bans nothing");
    }

    [Theory]
    [InlineData("src/Directory.Build.props")]
    [InlineData("tests/Directory.Build.props")]
    public void The_ban_is_in_force_in(string props)
    {
        string[] items = [.. Repository.ReadXml(props).Descendants("ItemGroup").Where(group => group.Attribute("Condition") is null).Elements()
            .Where(item => item.Attribute("Condition") is null)
            .Select(item => $"{item.Name} {item.Attribute("Include")?.Value.Split(')', '/')[^1]}")];

        items.Should().Contain(["AdditionalFiles BannedSymbols.txt", "PackageReference Microsoft.CodeAnalysis.BannedApiAnalyzers"]);
    }

    private static string[] BannedSymbols() =>
        [.. Repository.Read("src/BannedSymbols.txt").Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split(';')[0].Trim())];

    private static bool Exists(string symbol)
    {
        Match match = Symbol().Match(symbol);
        string member = match.Groups["member"].Value;
        return match.Groups["kind"].Value switch
        {
            "T" => Find($"{match.Groups["type"].Value}.{member}") is not null,
            "P" => Find(match.Groups["type"].Value)?.GetProperty(member) is not null,
            "M" => Find(match.Groups["type"].Value)?.GetMembers().OfType<MethodBase>()
                .Any(method => method.Name.Replace('.', '#') == member && Parameters(method) == match.Groups["parameters"].Value) ?? false,
            _ => false,
        };
    }

    private static Type? Find(string name) => typeof(object).Assembly.GetType(name) ?? Assembly.Load("netstandard").GetType(name);

    private static string Parameters(MethodBase method) => string.Join(',', method.GetParameters().Select(parameter => parameter.ParameterType.FullName));

    [GeneratedRegex(@"\bTickCount(64)?\b")]
    private static partial Regex Tick();

    [GeneratedRegex(@"^(?<kind>[TPM]):(?<type>[\w.]+)\.(?<member>#?\w+)(\((?<parameters>[\w.,]*)\))?$")]
    private static partial Regex Symbol();
}
