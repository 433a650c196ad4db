using System.Text.RegularExpressions;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>What no file of the repository holds, and what every test is called.</summary>
public sealed partial class FileTests
{
    // Put together at run time: this file, too, is one of those that must not hold them.
    private static string[] OfOneMachine { get; } =
        [$"/{"work"}/", $"/{"root"}/", $"/tmp/{"bash_jobs"}", $"/tmp/{"brief"}", string.Join('.', "api", "nuget", "org"), $"v3/{"index"}.json"];

    private static string[] Unfinished { get; } = ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Exception"];

    [Fact]
    public void No_file_names_a_place_on_one_machine_or_a_package_feed()
    {
        string[] needles = OfOneMachine;

        IEnumerable<string> offenders = Holding(Repository.Files, needles);

        offenders.ShouldBeNone();
    }

    [Fact]
    public void No_code_is_unfinished()
    {
        string[] needles = Unfinished;

        IEnumerable<string> offenders = Holding(Repository.Sources, needles);

        offenders.ShouldBeNone();
    }

    [Fact]
    public void Every_test_is_called_by_a_sentence()
    {
        string[] sources = [.. Repository.Sources.Where(file => file.StartsWith("tests/", StringComparison.Ordinal)).Select(Repository.Read)];

        int marks = sources.Sum(source => Mark().Count(source));
        string[] names = [.. sources.SelectMany(source => Test().Matches(source)).Select(match => match.Groups["name"].Value)];
        IEnumerable<string> offenders = names.Where(name => !Sentence().IsMatch(name));

        names.Should().HaveCountGreaterThanOrEqualTo(30).And.HaveCount(marks, "every mark of a test must be followed by its method");
        offenders.ShouldBeNone();
    }

    private static IEnumerable<string> Holding(IEnumerable<string> files, string[] needles) => files.SelectMany(file => Repository.Read(file).Split('\n')
        .Where(line => needles.Any(needle => line.Contains(needle, StringComparison.Ordinal)))
        .Select(line => $"{file}: {line.Trim()}"));

    [GeneratedRegex(@"^[ \t]*\[(Fact|Theory)\b", RegexOptions.Multiline)]
    private static partial Regex Mark();

    [GeneratedRegex(@"^[ \t]*\[(Fact|Theory)\b(?:(?!\bpublic\b).)*?\bpublic\s+(override\s+|virtual\s+)?(async\s+)?(void|Task|ValueTask)\s+(?<name>\w+)\s*(<\w+>)?\(", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Test();

    /// <summary>At least three words.</summary>
    [GeneratedRegex("^[A-Z0-9][A-Za-z0-9]*(_[A-Za-z0-9]+){2,}$")]
    private static partial Regex Sentence();
}
