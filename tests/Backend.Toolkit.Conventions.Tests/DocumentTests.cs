using System.Reflection;
using System.Text.RegularExpressions;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>What the documents show is what the code does.</summary>
public sealed class DocumentTests
{
    [Fact]
    public void Every_block_of_code_in_a_readme_is_a_piece_of_a_sample_line_for_line()
    {
        (string Document, string[] Samples)[] documents =
        [
            .. Repository.Packages.Select(package => (package.ReadmePath, package.IsLeaf ? [package.SamplePath] : Repository.Samples.ToArray())),
            ("README.md", Repository.Samples.ToArray()),
        ];

        var blocks = documents.Where(document => Repository.Exists(document.Document))
            .SelectMany(document => Markdown.CodeBlocks(Repository.Read(document.Document)).Select(block => (document.Document, document.Samples, block.Language, block.Lines)))
            .ToArray();
        IEnumerable<string> offenders = blocks
            .Where(block => block.Language is "" || (IsCSharp(block.Language) && !block.Samples.Any(sample => IsPieceOf(sample, block.Lines))))
            .Select(block => $"{block.Document} ({(block.Language is "" ? "no language" : block.Language)}): {string.Join('\n', block.Lines)}");
        IEnumerable<string> withoutExample = Repository.Leaves.Select(leaf => leaf.ReadmePath).Where(readme => !blocks.Any(block => block.Document == readme && IsCSharp(block.Language)));

        withoutExample.ShouldBeNone("a readme shows how its package is used");
        offenders.ShouldBeNone();
    }

    [Fact]
    public void Every_option_is_in_the_table_of_its_readme_with_its_default()
    {
        (Package Package, Type Options, PropertyInfo Property)[] options = [.. Repository.Packages.SelectMany(package => package.OptionsTypes
            .SelectMany(type => type.GetProperties(BindingFlags.Public | BindingFlags.Instance)
                .Where(property => property.CanWrite)
                .Select(property => (package, type, property))))];

        IEnumerable<string> offenders = options.Where(option =>
        {
            object? value = option.Property.GetValue(Activator.CreateInstance(option.Options));
            return !Repository.Exists(option.Package.ReadmePath) || !Markdown.Defaults(Repository.Read(option.Package.ReadmePath))
                .Any(row => row.Name.Contains($"`{option.Property.Name}`", StringComparison.Ordinal) && DefaultText.Tells(row.Default, value, option.Property.PropertyType));
        }).Select(option => $"{option.Package.ReadmePath}: {option.Options.Name}.{option.Property.Name} = {option.Property.GetValue(Activator.CreateInstance(option.Options)) ?? "null"}");

        options.Should().HaveCountGreaterThanOrEqualTo(20);
        offenders.ShouldBeNone();
    }

    [Fact]
    public void Every_relative_link_leads_somewhere()
    {
        (string Document, string Target)[] links = [.. Repository.Documents
            .SelectMany(document => Markdown.Links(Repository.Read(document)).Select(target => (document, target)))
            .Where(link => !link.target.Contains(':', StringComparison.Ordinal))];

        IEnumerable<string> offenders = links.Where(link => !Resolves(link.Document, link.Target)).Select(link => $"{link.Document}: {link.Target}");

        links.Should().NotBeEmpty();
        offenders.ShouldBeNone();
    }

    [Fact]
    public void Everything_that_can_be_added_to_services_is_added_in_a_sample()
    {
        string[] registrations = [.. Repository.Packages.SelectMany(package => package.Registrations).Select(method => method.Name).Distinct()];

        string samples = string.Join('\n', Repository.Samples.Select(Repository.Read));
        IEnumerable<string> unused = registrations.Where(name => !Regex.IsMatch(samples, $@"\.{name}[(<]"));

        registrations.Should().HaveCountGreaterThanOrEqualTo(3);
        unused.ShouldBeNone();
    }

    private static bool IsCSharp(string language) => language.Split(' ')[0].ToLowerInvariant() is "csharp" or "cs" or "c#";

    private static bool IsPieceOf(string sample, string[] block)
    {
        if (!Repository.Exists(sample))
        {
            return false;
        }

        string[] lines = [.. Repository.Read(sample).Split('\n').Select(line => line.Trim())];
        string[] wanted = [.. block.Select(line => line.Trim())];
        return Enumerable.Range(0, Math.Max(0, lines.Length - wanted.Length + 1)).Any(start => lines.AsSpan(start, wanted.Length).SequenceEqual(wanted));
    }

    private static bool Resolves(string document, string target)
    {
        string[] parts = target.Split('#', 2);
        string folder = Path.GetDirectoryName(Repository.Absolute(document))!;
        string path = parts[0].Length == 0 ? Repository.Absolute(document) : Path.GetFullPath(Path.Combine(folder, parts[0]));
        return (File.Exists(path) || Directory.Exists(path))
            && (parts.Length == 1 || Markdown.Anchors(File.ReadAllText(path).ReplaceLineEndings("\n")).Contains(parts[1]));
    }
}
