using System.Collections;
using System.Reflection;
using System.Text.RegularExpressions;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>What the documents show is what the code does.</summary>
public sealed partial class DocumentTests
{
    [Fact]
    public void Every_block_of_code_in_a_readme_is_a_piece_of_a_sample_line_for_line()
    {
        (string Document, string[] Samples)[] documents = [.. Repository.Documents.Select(document =>
            (document, Repository.Leaves.SingleOrDefault(leaf => leaf.ReadmePath == document) is { } leaf ? [leaf.SamplePath] : Repository.Samples.ToArray()))];

        var blocks = documents
            .SelectMany(document => Markdown.CodeBlocks(Repository.Read(document.Document)).Select(block => (document.Document, document.Samples, block.Language, block.Lines)))
            .ToArray();
        IEnumerable<string> offenders = blocks
            .Where(block => (block.Language is "" && Path.GetFileName(block.Document) == "README.md") || (IsCSharp(block.Language) && !block.Samples.Any(sample => IsPieceOf(sample, block.Lines) || IsProgramOf(sample, block.Lines))))
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
                .Where(property => property.CanWrite || property.GetValue(Activator.CreateInstance(type)) is ICollection)
                .Select(property => (package, type, property))))];

        IEnumerable<string> missing = options
            .Where(option => !Rows(option.Package).Any(row => Names(row.Name).Contains(option.Property.Name) && Tells(row.Default, option.Options, option.Property)))
            .Select(option => $"{option.Package.ReadmePath}: {option.Options.Name}.{option.Property.Name} = {option.Property.GetValue(Activator.CreateInstance(option.Options)) ?? "null"}");
        IEnumerable<string> outdated = Repository.Packages.SelectMany(package => Rows(package).SelectMany(row => Names(row.Name)
            .Where(name => !options.Any(option => option.Package == package && option.Property.Name == name && Tells(row.Default, option.Options, option.Property)))
            .Select(name => $"{package.ReadmePath}: {name}, {row.Default}")));

        options.Should().HaveCountGreaterThanOrEqualTo(150);
        missing.ShouldBeNone();
        outdated.ShouldBeNone("a row tells the default of an option");
    }

    [Fact]
    public void Every_file_of_the_repository_that_a_document_names_exists()
    {
        (string Document, string Path)[] paths = [.. Repository.Documents.SelectMany(document => NamedPath().Matches(Repository.Read(document)).Select(match => (document, match.Value)))];

        IEnumerable<string> offenders = paths.Where(named => !Repository.Exists(named.Path) && !Directory.Exists(Repository.Absolute(named.Path))).Select(named => $"{named.Document}: {named.Path}");

        paths.Should().HaveCountGreaterThanOrEqualTo(40);
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

        string samples = string.Join('\n', Repository.Samples.SelectMany(Repository.CodeLines).Select(line => line.Text));
        IEnumerable<string> unused = registrations.Where(name => !Regex.IsMatch(samples, $@"\.{name}[(<]"));

        registrations.Should().HaveCountGreaterThanOrEqualTo(3);
        unused.ShouldBeNone();
    }

    private static (string Name, string Default)[] Rows(Package package) => [.. Markdown.Defaults(Repository.Read(package.ReadmePath))];

    /// <summary>The options that a row is about.</summary>
    private static IEnumerable<string> Names(string cell) => cell.Split('`').Where((_, index) => index % 2 == 1);

    private static bool Tells(string text, Type options, PropertyInfo property) => DefaultText.Tells(text, property.GetValue(Activator.CreateInstance(options)), property.PropertyType);

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

    /// <summary>
    /// A whole program may leave out paragraphs of its sample: each of its own is there line for line, and they come in the same order. Directives
    /// are lines of the sample, wherever they stand.
    /// </summary>
    private static bool IsProgramOf(string sample, string[] block)
    {
        string[] directives = [.. block.TakeWhile(line => Markdown.IsDirective(line))];
        if (directives.Length == 0 || !Repository.Exists(sample))
        {
            return false;
        }

        string[] lines = [.. Repository.Read(sample).Split('\n').Select(line => line.Trim())];
        IEnumerable<string[]> paragraphs = string.Join('\n', block[directives.Length..].Select(line => line.Trim()))
            .Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(paragraph => paragraph.Trim('\n').Split('\n'));
        int from = 0;
        foreach (string[] paragraph in paragraphs)
        {
            int start = Enumerable.Range(from, Math.Max(0, lines.Length - paragraph.Length + 1 - from)).FirstOrDefault(at => lines.AsSpan(at, paragraph.Length).SequenceEqual(paragraph), -1);
            if (start < 0)
            {
                return false;
            }

            from = start + paragraph.Length;
        }

        return directives.All(lines.Contains);
    }

    private static bool Resolves(string document, string target)
    {
        string[] parts = target.Split('#', 2);
        string folder = Path.GetDirectoryName(Repository.Absolute(document))!;
        string path = parts[0].Length == 0 ? Repository.Absolute(document) : Path.GetFullPath(Path.Combine(folder, parts[0]));
        return (File.Exists(path) || Directory.Exists(path))
            && (parts.Length == 1 || Markdown.Anchors(File.ReadAllText(path).ReplaceLineEndings("\n")).Contains(parts[1]));
    }

    /// <summary>As in <c>samples/http.cs</c>, in text and in commands; not what has a gap to fill.</summary>
    [GeneratedRegex(@"(?<![\w/.<-])(samples|tests|benchmarks|src)/[\w./-]*[\w/](?![\w*<{])")]
    private static partial Regex NamedPath();
}
