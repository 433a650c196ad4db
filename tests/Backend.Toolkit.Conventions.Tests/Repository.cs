using System.Xml.Linq;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>What the rules are checked on: the files of this repository and the packages in it, found and never listed.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>All files that are tracked or could be, with forward slashes, relative to <see cref="Root"/>.</summary>
    public static IReadOnlyList<string> Files { get; } = FindFiles();

    public static IReadOnlyList<Package> Packages { get; } = FindPackages();

    public static IEnumerable<Package> Leaves => Packages.Where(package => package.IsLeaf);

    public static IEnumerable<string> Sources => Files.Where(file => file.EndsWith(".cs", StringComparison.Ordinal));

    public static IEnumerable<string> BuildFiles => Files.Where(file => Path.GetExtension(file) is ".csproj" or ".props" or ".targets");

    public static IEnumerable<string> Samples => Sources.Where(file => file.StartsWith("samples/", StringComparison.Ordinal));

    public static IEnumerable<string> Documents => Files.Where(file => file.EndsWith(".md", StringComparison.Ordinal));

    public static bool Exists(string path) => File.Exists(Absolute(path));

    public static string Absolute(string path) => Path.Combine(Root, path);

    public static string Read(string path) => File.ReadAllText(Absolute(path)).ReplaceLineEndings("\n");

    public static XDocument ReadXml(string path) => XDocument.Parse(Read(path));

    /// <summary>The lines of a C# file that are not comments, with their numbers.</summary>
    public static IEnumerable<(int Number, string Text)> CodeLines(string path) =>
        Read(path).Split('\n')
            .Select((text, index) => (Number: index + 1, Text: text))
            .Where(line => !line.Text.TrimStart().StartsWith("//", StringComparison.Ordinal));

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Backend.Toolkit.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException($"No Backend.Toolkit.sln above {AppContext.BaseDirectory}.");
    }

    private static List<string> FindFiles()
    {
        string listing = Command.Run(Root, TimeSpan.FromSeconds(30), "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z");
        List<string> files = [.. listing.Split('\0', StringSplitOptions.RemoveEmptyEntries).Distinct().Where(Exists)];
        return files.Count >= 50 ? files : throw new InvalidOperationException($"Only {files.Count} files in {Root}: discovery is broken.");
    }

    private static List<Package> FindPackages()
    {
        List<Package> packages = [.. Directory.GetDirectories(Absolute("src")).Order(StringComparer.Ordinal)
            .Where(folder => Directory.EnumerateFiles(folder).Any())
            .Select(folder => new Package(Path.GetFileName(folder)))];
        return packages.Count >= 3 ? packages : throw new InvalidOperationException($"Only {packages.Count} packages in src: discovery is broken.");
    }
}
