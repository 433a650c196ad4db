using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>No warning is suppressed, nullable is on, warnings are errors, the public API is written down, ahead-of-time compilation is promised.</summary>
public sealed partial class WarningTests
{
    /// <summary>The reasons stand in .editorconfig.</summary>
    private static string[] DecidedForAll { get; } = ["RS0026", "RS0027"];

    [Fact]
    public void No_code_suppresses_a_warning()
    {
        string attribute = nameof(SuppressMessageAttribute)[..^"Attribute".Length];
        Regex suppression = new($@"^\s*#(pragma|nullable)\b|^[^""]*\[[^""\]]*{attribute}\b");

        IEnumerable<string> offenders = Repository.Sources.SelectMany(file => Repository.CodeLines(file)
            .Where(line => suppression.IsMatch(line.Text))
            .Select(line => $"{file}:{line.Number}: {line.Text.Trim()}"));

        offenders.ShouldBeNone();
    }

    [Fact]
    public void No_project_suppresses_a_warning()
    {
        string[] switches = ["NoWarn", "WarningsNotAsErrors", "MSBuildWarningsAsMessages", "WarningLevel", "DisabledWarnings", "RunAnalyzers", "RunAnalyzersDuringBuild"];
        var always = new Dictionary<string, string> { ["TreatWarningsAsErrors"] = "true", ["Nullable"] = "enable", ["EnforceCodeStyleInBuild"] = "true" };

        IEnumerable<string> offenders = Repository.BuildFiles.SelectMany(file => Repository.ReadXml(file).Descendants()
            .Where(element => switches.Contains(element.Name.LocalName) || element.Attributes().Any(attribute => switches.Contains(attribute.Name.LocalName))
                || (always.TryGetValue(element.Name.LocalName, out string? value) && value != element.Value))
            .Select(element => $"{file}: {element}"));

        offenders.ShouldBeNone();
    }

    [Fact]
    public void Nullable_is_on_and_warnings_are_errors_for_all()
    {
        XElement[] properties = [.. Repository.ReadXml("Directory.Build.props").Descendants("PropertyGroup").Where(group => group.Attribute("Condition") is null).Elements()];

        IEnumerable<string> settings = properties.Where(property => property.Attribute("Condition") is null).Select(property => $"{property.Name}={property.Value}");
        IEnumerable<string> cutOff = Repository.Files.Where(file => Path.GetFileName(file) == "Directory.Build.props" && file != "Directory.Build.props")
            .Where(file => !Repository.Read(file).Contains("<Import Project=\"$([MSBuild]::GetPathOfFileAbove('Directory.Build.props', ", StringComparison.Ordinal));

        settings.Should().Contain(["Nullable=enable", "TreatWarningsAsErrors=true", "TargetFramework=net10.0"]);
        cutOff.ShouldBeNone("props that do not import the root's lose them");
    }

    [Fact]
    public void No_analyzer_is_turned_off_but_for_what_was_decided_for_all()
    {
        string[] configurations = [.. Repository.Files.Where(file => Path.GetFileName(file) is ".editorconfig" or ".globalconfig" || Path.GetExtension(file) is ".ruleset" or ".rsp")];

        IEnumerable<string> off = configurations.SelectMany(file => TurnedOff().Matches(Repository.Read(file)).Select(match => match.Groups[1].Value));

        configurations.Should().Equal(".editorconfig");
        off.Where(rule => !rule.StartsWith("xUnit", StringComparison.Ordinal)).Should().BeSubsetOf(DecidedForAll);
    }

    [Fact]
    public void Every_public_type_is_in_the_public_API_files_of_its_package()
    {
        var missing = new List<string>();
        foreach (Package package in Repository.Packages)
        {
            string[] files = [$"{package.Folder}/PublicAPI.Shipped.txt", $"{package.Folder}/PublicAPI.Unshipped.txt"];
            missing.AddRange(files.Except(Repository.Files));
            missing.AddRange(files.Where(Repository.Exists).Where(file => !Repository.Read(file).StartsWith("#nullable enable\n", StringComparison.Ordinal))
                .Select(file => $"{file} does not begin with #nullable enable"));

            string[] lines = [.. files.Where(Repository.Exists).SelectMany(file => Repository.Read(file).Split('\n'))];
            missing.AddRange(package.PublicTypes.Select(type => type.FullName!.Replace('+', '.').Split('`')[0])
                .Where(name => !lines.Any(line => line == name || line.StartsWith(name + "<", StringComparison.Ordinal))));
        }

        missing.ShouldBeNone();
    }

    [Fact]
    public void Every_package_is_compatible_with_ahead_of_time_compilation_but_the_one_for_entity_framework()
    {
        IEnumerable<Package> packages = Repository.Packages.Where(package => package.Segments[^1] != "EntityFrameworkCore");

        // The SDK writes this attribute for IsAotCompatible, which also turns the analyzers on.
        IEnumerable<Package> offenders = packages.Where(package => !package.Assembly.GetCustomAttributes<AssemblyMetadataAttribute>()
            .Any(attribute => attribute is { Key: "IsTrimmable", Value: "True" }));
        IEnumerable<string> halfway = Repository.BuildFiles.Where(file => file.StartsWith("src/", StringComparison.Ordinal))
            .SelectMany(file => Repository.ReadXml(file).Descendants())
            .Select(element => element.Name.LocalName)
            .Where(name => name is "IsTrimmable" or "EnableAotAnalyzer" or "EnableTrimAnalyzer" or "EnableSingleFileAnalyzer");

        offenders.ShouldBeNone();
        halfway.ShouldBeNone("IsAotCompatible says it all");
    }

    [GeneratedRegex(@"^\s*dotnet_(?:diagnostic|analyzer_diagnostic)\.(\S+?)\.?severity\s*=\s*(?:none|silent|suggestion)", RegexOptions.Multiline)]
    private static partial Regex TurnedOff();
}
