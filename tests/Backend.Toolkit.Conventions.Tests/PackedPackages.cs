using System.IO.Compression;
using System.Reflection;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>
/// All packages, packed from what was just built into a temporary folder, and projects beside them that know the packages alone. Their version is
/// made up for this run, so that no cache can hold it; what they depend on comes from where this build found it. Nothing is fetched.
/// </summary>
public sealed partial class PackedPackages : IDisposable
{
    private static TimeSpan Limit { get; } = TimeSpan.FromMinutes(10);
    private static string Configuration { get; } = typeof(PackedPackages).Assembly.GetCustomAttribute<AssemblyConfigurationAttribute>()!.Configuration;

    private readonly string _folder = Directory.CreateTempSubdirectory("backend-toolkit-").FullName;

    public PackedPackages()
    {
        try
        {
            Pack();
            PrepareProjects();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Version { get; } = $"0.0.0-packed.{Guid.NewGuid():N}";

    internal static IReadOnlyList<Package> Packages => Repository.Packages;

    internal ZipArchive Open(Package package) => ZipFile.OpenRead(Path.Combine(_folder, "packed", $"{package.Name}.{Version}.nupkg"));

    /// <summary>Adds a project to those that are built together; it may use these packages, of this run's version when none is given.</summary>
    internal void AddProject(string name, string sdk, IEnumerable<(string Name, string? Version)> packages, string program, IEnumerable<XElement>? properties = null)
    {
        string folder = Directory.CreateDirectory(Path.Combine(_folder, "projects", name)).FullName;
        new XDocument(new XElement("Project", new XAttribute("Sdk", sdk),
            new XElement("PropertyGroup",
                new XElement("OutputType", "Exe"),
                new XElement("TargetFramework", "net10.0"),
                new XElement("Nullable", "enable"),
                new XElement("ImplicitUsings", "enable"),
                new XElement("TreatWarningsAsErrors", "true"),
                new XElement("NuGetAudit", "false"),
                properties),
            new XElement("ItemGroup", packages.Select(package =>
                new XElement("PackageReference", new XAttribute("Include", package.Name), new XAttribute("Version", package.Version ?? $"[{Version}]"))))))
            .Save(Path.Combine(folder, $"{name}.csproj"));
        File.WriteAllText(Path.Combine(folder, "Program.cs"), program);
    }

    /// <summary>Adds what a user has after <c>dotnet new</c> of this template, <c>dotnet add package</c> of these, and this program.</summary>
    internal void AddFreshProject(string name, string template, IEnumerable<string> packages, string program)
    {
        string made = Path.Combine(_folder, "templates", template);
        if (!Directory.Exists(made))
        {
            Command.Run(_folder, Limit, "dotnet", "new", template, "--output", made, "--no-restore");
        }

        string folder = Directory.CreateDirectory(Path.Combine(_folder, "readmes", name)).FullName;
        XDocument project = XDocument.Load(Path.Combine(made, $"{template}.csproj"));
        project.Root!.Add(new XElement("ItemGroup", packages.Select(package => new XElement("PackageReference", new XAttribute("Include", package),
            new XAttribute("Version", Packages.Any(own => own.Name == package) ? $"[{Version}]" : CentralVersion(package))))));
        project.Save(Path.Combine(folder, $"{name}.csproj"));
        File.WriteAllText(Path.Combine(folder, "Program.cs"), program);
    }

    /// <summary>Restores and builds all projects that were added.</summary>
    internal void BuildProjects() => Build("projects");

    /// <summary>Restores and builds all fresh projects that were added; a warning is an error.</summary>
    internal void BuildFreshProjects() => Build("readmes", "-warnaserror");

    private void Build(string folder, params IEnumerable<string> arguments)
    {
        string projects = Path.Combine(_folder, folder);
        new XDocument(new XElement("Solution", Directory.GetFiles(projects, "*.csproj", SearchOption.AllDirectories).Order(StringComparer.Ordinal)
            .Select(project => new XElement("Project", new XAttribute("Path", project)))))
            .Save(Path.Combine(projects, "All.slnx"));
        Command.Run(projects, Limit, "dotnet", ["build", "All.slnx", "--configuration", "Release", "--nologo", .. arguments]);
    }

    /// <summary>What a user types: a fresh web project, these packages, this program; and a build.</summary>
    /// <returns>The program that was built.</returns>
    internal string BuildFreshWebProject(IEnumerable<string> packages, string program)
    {
        string folder = Path.Combine(_folder, "fresh", "Orders");
        Command.Run(_folder, Limit, "dotnet", "new", "web", "--output", folder, "--no-restore");
        foreach (string package in packages)
        {
            Command.Run(folder, Limit, "dotnet", "add", "package", package, "--version", Version, "--no-restore");
        }

        File.WriteAllText(Path.Combine(folder, "Program.cs"), program);
        Command.Run(folder, Limit, "dotnet", "build", "--configuration", "Release", "--nologo", "-warnaserror");
        return Path.Combine(folder, "bin", "Release", "net10.0", "Orders.dll");
    }

    /// <returns>What the program printed.</returns>
    internal string RunProject(string name) =>
        Command.Run(_folder, TimeSpan.FromMinutes(1), "dotnet", Path.Combine(_folder, "projects", name, "bin", "Release", "net10.0", $"{name}.dll"));

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void Pack()
    {
        XElement projects = new("ItemGroup", Packages.Select(package => new XElement("Package", new XAttribute("Include", Repository.Absolute(package.ProjectPath)))));
        XElement call = new("MSBuild", new XAttribute("Projects", "@(Package)"), new XAttribute("Targets", "Pack"), new XAttribute("BuildInParallel", "true"));
        new XDocument(new XElement("Project", projects, new XElement("Target", new XAttribute("Name", "Pack"), call))).Save(Path.Combine(_folder, "Pack.proj"));

        Command.Run(_folder, Limit, "dotnet", "msbuild", "Pack.proj", "-nologo", "-maxCpuCount", "-property:NoBuild=true", $"-property:Configuration={Configuration}",
            $"-property:PackageVersion={Version}", $"-property:PackageOutputPath={Path.Combine(_folder, "packed")}", $"-property:NuspecOutputPath={Path.Combine(_folder, "nuspec")}/");
    }

    private void PrepareProjects()
    {
        // Where this build found what it needed.
        using JsonDocument assets = JsonDocument.Parse(Repository.Read("artifacts/obj/Backend.Toolkit.Conventions.Tests/project.assets.json"));
        string[] caches = [.. assets.RootElement.GetProperty("packageFolders").EnumerateObject().Select(cache => cache.Name)];

        static XElement Only(string section, IEnumerable<string> paths) =>
            new(section, new XElement("clear"), paths.Select((path, index) => new XElement("add", new XAttribute("key", $"{section}{index}"), new XAttribute("value", path))));
        new XDocument(new XElement("configuration",
            Only("packageSources", [Path.Combine(_folder, "packed")]),
            Only("fallbackPackageFolders", caches),
            new XElement("config", new XElement("add", new XAttribute("key", "globalPackagesFolder"), new XAttribute("value", Path.Combine(_folder, "restored")))),
            new XElement("auditSources", new XElement("clear")),
            new XElement("packageSourceMapping", new XElement("clear"))))
            .Save(Path.Combine(_folder, "nuget.config"));

        // What lies above the temporary folder is none of their business.
        foreach (string file in new[] { "Directory.Build.props", "Directory.Build.targets", "Directory.Packages.props" })
        {
            File.WriteAllText(Path.Combine(_folder, file), "<Project />");
        }
    }

    /// <summary>A sample as the program of a project of its own: what it says to <c>dotnet run</c> becomes the project's.</summary>
    internal void AddSample(string name, string samplePath)
    {
        string sdk = "Microsoft.NET.Sdk";
        var packages = new List<(string, string?)>();
        var properties = new List<XElement>();
        string sample = Repository.Read(samplePath);
        foreach (Match directive in Directive().Matches(sample))
        {
            string value = directive.Groups["value"].Value.Trim();
            string[] pair = value.Split('@', '=');
            switch (directive.Groups["kind"].Value)
            {
                case "project":
                    packages.Add((Path.GetFileNameWithoutExtension(value), null));
                    break;
                case "package":
                    packages.Add((pair[0], pair.Length > 1 ? pair[1] : CentralVersion(pair[0])));
                    break;
                case "property":
                    properties.Add(new XElement(pair[0], pair[1]));
                    break;
                case "sdk":
                    sdk = pair[0];
                    break;
                default:
                    throw new InvalidOperationException($"{samplePath}: {directive.Value}");
            }
        }

        AddProject(name, sdk, packages, WithoutDirectives(sample), properties);
    }

    internal static string WithoutDirectives(string sample) => Directive().Replace(sample, "");

    internal static string CentralVersion(string package) => Repository.ReadXml("Directory.Packages.props").Descendants("PackageVersion")
        .Single(version => version.Attribute("Include")!.Value == package).Attribute("Version")!.Value;

    [GeneratedRegex(@"^#:(?<kind>\w+) (?<value>.+)\n", RegexOptions.Multiline)]
    private static partial Regex Directive();
}
