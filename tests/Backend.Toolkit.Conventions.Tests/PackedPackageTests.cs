using System.IO.Compression;
using System.Net;
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>What people get: the packed files, and programs that know nothing but them.</summary>
public sealed partial class PackedPackageTests(PackedPackages packed) : IClassFixture<PackedPackages>
{
    private static string[] NeededByLeaves { get; } =
    [
        "Microsoft.Extensions.DependencyInjection.Abstractions",
        "Microsoft.Extensions.Hosting.Abstractions", // whether this is Development
        "Microsoft.Extensions.Logging.Abstractions",
        "Microsoft.Extensions.Options",
        "System.Threading.RateLimiting",
    ];

    [Fact]
    public void A_package_holds_its_assembly_its_documentation_and_its_readme_and_nothing_else()
    {
        var offenders = new List<string>();
        foreach (Package package in PackedPackages.Packages)
        {
            using ZipArchive archive = packed.Open(package);

            // A contract with others is read where the package is.
            IEnumerable<string> contracts = Repository.Exists($"{package.Folder}/WIRE.md") ? ["WIRE.md"] : [];
            string[] expected = ["README.md", .. contracts, $"lib/net10.0/{package}.dll", $"lib/net10.0/{package}.xml", $"{package}.nuspec"];
            string[] actual = [.. archive.Entries.Select(entry => entry.FullName)
                .Where(name => !name.StartsWith("_rels/", StringComparison.Ordinal) && !name.StartsWith("package/", StringComparison.Ordinal) && name != "[Content_Types].xml")];
            offenders.AddRange(expected.Except(actual).Select(missing => $"{package} has no {missing}"));
            offenders.AddRange(actual.Except(expected).Select(stranger => $"{package} has {stranger}"));
        }

        offenders.ShouldBeNone();
    }

    [Fact]
    public void A_package_says_what_it_is_and_under_which_licence()
    {
        var offenders = new List<string>();
        foreach (Package package in PackedPackages.Packages)
        {
            XElement[] metadata = [.. Nuspec(package).Elements()];

            string? Value(string name) => metadata.SingleOrDefault(element => element.Name.LocalName == name)?.Value;
            XElement? license = metadata.SingleOrDefault(element => element.Name.LocalName == "license");
            if (license?.Value != "MIT" || license.Attribute("type")?.Value != "expression")
            {
                offenders.Add($"{package}: license {license}");
            }

            offenders.AddRange(Value("id") == package.Name && Value("readme") == "README.md" ? [] : [$"{package}: id or readme"]);
            offenders.AddRange(new[] { "authors", "description", "tags" }.Where(name => Value(name) is null or "" or "Package Description").Select(name => $"{package}: {name}"));
        }

        offenders.ShouldBeNone();
    }

    [Fact]
    public void The_readme_and_the_documentation_of_a_package_are_whole()
    {
        var offenders = new List<string>();
        foreach (Package package in PackedPackages.Packages)
        {
            using ZipArchive archive = packed.Open(package);

            string readme = Encoding.UTF8.GetString(Bytes(archive, "README.md")).ReplaceLineEndings("\n");
            offenders.AddRange(readme.Length > 500 && readme == Repository.Read(package.ReadmePath) ? [] : [$"{package}: README.md"]);
            XDocument documentation = XDocument.Parse(Encoding.UTF8.GetString(Bytes(archive, $"lib/net10.0/{package}.xml")).TrimStart('\ufeff'));
            string[] documented = [.. documentation.Descendants("member").Select(member => member.Attribute("name")!.Value)];
            offenders.AddRange(package.PublicTypes.Select(type => $"T:{type.FullName!.Replace('+', '.')}").Except(documented));
        }

        offenders.ShouldBeNone();
    }

    [Fact]
    public void The_symbols_are_inside_the_assembly()
    {
        IEnumerable<Package> offenders = PackedPackages.Packages.Where(package => Documents(package).Length == 0);

        offenders.ShouldBeNone();
    }

    [Fact]
    public void A_package_that_was_built_by_CI_does_not_tell_where()
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("CI") == "true", "paths are mapped only where CI=true");

        IEnumerable<string> offenders = PackedPackages.Packages.SelectMany(Documents).Where(document => !document.StartsWith("/_", StringComparison.Ordinal));

        offenders.ShouldBeNone();
    }

    [Fact]
    public void A_package_depends_on_what_its_project_names_and_a_leaf_on_little()
    {
        var offenders = new List<string>();
        foreach (Package package in PackedPackages.Packages)
        {
            string[] expected =
            [
                .. package.ProjectReferences.Select(reference => $"{reference} {packed.Version}"),
                .. package.Project.Descendants("PackageReference").Where(reference => reference.Attribute("PrivateAssets") is null)
                    .Select(reference => reference.Attribute("Include")!.Value)
                    .Select(reference => $"{reference} {(package.IsLeaf && reference.StartsWith("Microsoft.", StringComparison.Ordinal) ? "10.0.0" : PackedPackages.CentralVersion(reference))}"),
            ];

            string[] actual = [.. Nuspec(package).Descendants().Where(element => element.Name.LocalName == "dependency")
                .Select(dependency => $"{dependency.Attribute("id")!.Value} {dependency.Attribute("version")!.Value}")];
            offenders.AddRange(expected.Except(actual).Select(missing => $"{package} lacks {missing}"));
            offenders.AddRange(actual.Except(expected).Select(stranger => $"{package} depends on {stranger}"));
            offenders.AddRange(package.IsLeaf ? actual.Where(dependency => !NeededByLeaves.Contains(dependency.Split(' ')[0])).Select(much => $"{package} is a leaf and depends on {much}") : []);
        }

        offenders.ShouldBeNone();
    }

    [Fact]
    public void Projects_that_know_the_packed_files_alone_build_without_a_warning_and_run()
    {
        Package[] alone = [.. PackedPackages.Packages];
        packed.AddProject("All", "Microsoft.NET.Sdk.Web", alone.Select(package => (package.Name, (string?)null)), ProgramThatUsesAll(alone));
        foreach (Package package in alone)
        {
            if (Repository.Exists(package.SamplePath))
            {
                packed.AddSample($"{package}.Alone", package.SamplePath);
            }
            else
            {
                packed.AddProject($"{package}.Alone", "Microsoft.NET.Sdk", [(package.Name, null)], $"Console.WriteLine(typeof({package.PublicTypes.First().FullName}));");
            }
        }

        packed.BuildProjects();
        string all = packed.RunProject("All");
        string[] each = [.. alone.Select(package => packed.RunProject($"{package}.Alone"))];

        all.Trim().Should().EndWith("All answered.").And.Contain(": 42");
        each.Should().OnlyContain(output => output.Length > 0);
    }

    [Fact]
    public async Task A_fresh_web_project_with_the_program_of_the_readme_builds_without_a_warning_and_answers()
    {
        string readme = Repository.Read("README.md");
        string program = string.Join('\n', Markdown.CodeBlocks(readme).Single(block => block.Lines.Contains("app.Run();")).Lines) + '\n';
        string[] packages = [.. AddedPackage().Matches(readme).Select(match => match.Value)];

        await using Server server = await Server.StartAsync("dotnet", packed.BuildFreshWebProject(packages, program));
        using HttpResponseMessage first = await OrderAsync(server, "first");
        using HttpResponseMessage repeated = await OrderAsync(server, "first");
        using HttpResponseMessage second = await OrderAsync(server, "second");
        using HttpResponseMessage withoutKey = await OrderAsync(server, null);
        var statuses = new List<HttpStatusCode>();
        while (statuses.LastOrDefault() != HttpStatusCode.TooManyRequests && statuses.Count < 1000)
        {
            using HttpResponseMessage one = await OrderAsync(server, $"{statuses.Count}");
            statuses.Add(one.StatusCode);
        }

        program.Should().Be(PackedPackages.WithoutDirectives(Repository.Read("samples/program.cs")));
        first.StatusCode.Should().Be(HttpStatusCode.Created);
        first.Headers.Contains("RateLimit").Should().BeTrue();
        (await first.Content.ReadAsStringAsync()).Should().Be("""{"paid":"by call 2"}""");
        repeated.Headers.GetValues("Idempotent-Replayed").Should().Equal("true");
        (await repeated.Content.ReadAsStringAsync()).Should().Be("""{"paid":"by call 2"}""");
        (await second.Content.ReadAsStringAsync()).Should().Be("""{"paid":"by call 3"}""");
        withoutKey.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        statuses[..^1].Should().HaveCountGreaterThanOrEqualTo(96).And.OnlyContain(status => status == HttpStatusCode.Created);
        statuses[^1].Should().Be(HttpStatusCode.TooManyRequests);
    }

    [Fact]
    public void The_first_example_of_each_readme_is_a_program_that_builds_without_a_warning_in_a_fresh_project_with_what_the_readme_adds()
    {
        var offenders = new List<string>();
        foreach (Package package in PackedPackages.Packages)
        {
            string readme = Repository.Read(package.ReadmePath);
            (string Language, string[] Lines)[] blocks = [.. Markdown.CodeBlocks(readme).Take(2)];
            string[] added = blocks is [("sh", _), ("csharp", _)] ? [.. AddedPackage().Matches(string.Join('\n', blocks[0].Lines)).Select(match => match.Value)] : [];
            Match template = FreshProject().Match(readme);
            if (added.FirstOrDefault() != package.Name || !template.Success || !Markdown.IsDirective(blocks[1].Lines[0]))
            {
                offenders.Add($"{package.ReadmePath}: first `dotnet new …`, then a block that adds this package, then a program");
                continue;
            }

            packed.AddFreshProject($"{package}.Readme", template.Value, added, string.Join('\n', blocks[1].Lines) + '\n');
        }

        offenders.ShouldBeNone();
        packed.BuildFreshProjects();
    }

    private static async Task<HttpResponseMessage> OrderAsync(Server server, string? key)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "orders");
        if (key is not null)
        {
            request.Headers.Add("Idempotency-Key", key);
        }

        return await server.Client.SendAsync(request);
    }

    /// <summary>Adds every service that can be added by a name alone, asks for each, and lets the executors execute.</summary>
    private static string ProgramThatUsesAll(IEnumerable<Package> packages)
    {
        var added = new List<string>();
        var used = new List<string>();
        foreach (MethodInfo method in packages.SelectMany(package => package.Registrations)
            .Where(method => method.GetParameters() is [_, { Name: "name" }, { Name: "configure", IsOptional: true }]))
        {
            var services = new ServiceCollection();
            (method.IsGenericMethod ? method.MakeGenericMethod(typeof(string)) : method).Invoke(null, [services, "packed", null]);

            // Limits, keys and databases have no default; nobody connects.
            Type options = method.GetParameters()[2].ParameterType.GetGenericArguments()[0];
            string configure = options.GetProperty("Limits") is not null ? ", options => options.Limits.Add(new())"
                : options.GetProperty("RandomKey") is not null ? ", options => options.RandomKey = true"
                : options.GetProperty("MinimumSecretBytes") is not null ? ", options => options.Keys.Add(new(WebhookKey.NewSecret()))"
                : options.GetProperty("ConnectionString") is not null ? $", options => options.ConnectionString = \"{(options.Namespace!.EndsWith(".Sqlite", StringComparison.Ordinal) ? "Data Source=packed.db" : "Host=127.0.0.1")}\""
                : options.GetProperty("Connection") is not null ? ", options => options.Connection = StackExchange.Redis.ConnectionMultiplexer.Connect(\"127.0.0.1:1,abortConnect=false,connectTimeout=1\")"
                : "";
            added.Add($"builder.Services.{method.Name}{(method.IsGenericMethod ? "<string>" : "")}(\"packed\"{configure});");
            foreach (Type type in services.Where(service => service.IsKeyedService).Select(service => service.ServiceType))
            {
                bool executes = type.GetMethods().Any(member => member.Name == "ExecuteAsync" && member.GetParameters()[0].Name == "action");
                string service = $"app.Services.GetRequiredKeyedService<{Signature.Of(type)}>(\"packed\")";
                used.Add($"Console.WriteLine(\"{Signature.Of(type)}: \" + {(executes ? $"await {service}.ExecuteAsync(token => Task.FromResult(42))" : service)});");
            }
        }

        added.Should().HaveCountGreaterThanOrEqualTo(3);
        used.Should().HaveCountGreaterThanOrEqualTo(added.Count);
        return $"""
            {string.Join('\n', packages.Select(package => $"using {package};"))}

            WebApplicationBuilder builder = WebApplication.CreateBuilder();
            builder.Logging.ClearProviders();
            builder.WebHost.UseUrls("http://127.0.0.1:0");
            {string.Join('\n', added)}

            await using WebApplication app = builder.Build();
            await app.StartAsync();
            {string.Join('\n', used)}
            await app.StopAsync();
            Console.WriteLine("All answered.");
            """;
    }

    private XElement Nuspec(Package package)
    {
        using ZipArchive archive = packed.Open(package);
        using var nuspec = new MemoryStream(Bytes(archive, $"{package}.nuspec"));
        return XDocument.Load(nuspec).Root!.Elements().Single(element => element.Name.LocalName == "metadata");
    }

    /// <summary>The source files that the embedded symbols name; none when there are no embedded symbols.</summary>
    private string[] Documents(Package package)
    {
        using ZipArchive archive = packed.Open(package);
        using var assembly = new PEReader(new MemoryStream(Bytes(archive, $"lib/net10.0/{package}.dll")));
        DebugDirectoryEntry[] embedded = [.. assembly.ReadDebugDirectory().Where(entry => entry.Type == DebugDirectoryEntryType.EmbeddedPortablePdb)];
        if (embedded.Length != 1)
        {
            return [];
        }

        using MetadataReaderProvider provider = assembly.ReadEmbeddedPortablePdbDebugDirectoryData(embedded[0]);
        MetadataReader symbols = provider.GetMetadataReader();
        return [.. symbols.Documents.Select(document => symbols.GetString(symbols.GetDocument(document).Name))];
    }

    private static byte[] Bytes(ZipArchive archive, string name)
    {
        using Stream entry = archive.GetEntry(name)!.Open();
        using var bytes = new MemoryStream();
        entry.CopyTo(bytes);
        return bytes.ToArray();
    }

    [GeneratedRegex("(?<=`dotnet new )(web|console)(?=`)")]
    private static partial Regex FreshProject();

    [GeneratedRegex(@"(?<=^dotnet add package )\S+", RegexOptions.Multiline)]
    private static partial Regex AddedPackage();
}
