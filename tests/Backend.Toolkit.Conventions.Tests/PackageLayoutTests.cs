using System.Reflection;
using System.Runtime.Versioning;
using System.Text.RegularExpressions;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>How packages are named, what they refer to, and what each brings along.</summary>
public sealed partial class PackageLayoutTests
{
    private static string[] NamesThatSayNothing { get; } = ["Core", "Common", "Abstractions", "Shared", "Helpers", "Utils"];

    [Fact]
    public void The_packages_are_found()
    {
        IEnumerable<string> names = Repository.Packages.Select(package => package.Name);

        names.Should().Contain(["Backend.Toolkit.CircuitBreakers", "Backend.Toolkit.RetryPolicies", "Backend.Toolkit.TimeoutBudgets"]);
    }

    [Fact]
    public void A_package_is_built_for_net10_alone()
    {
        var frameworks = Repository.Packages.Select(package => (package.Name, package.Assembly.GetCustomAttribute<TargetFrameworkAttribute>()!.FrameworkName));

        IEnumerable<string> overrides = Repository.BuildFiles.Where(file => Repository.ReadXml(file).Descendants()
            .Any(element => element.Name.LocalName is "TargetFramework" or "TargetFrameworks" && element.Value != "net10.0"));

        frameworks.Should().OnlyContain(package => package.FrameworkName == ".NETCoreApp,Version=v10.0");
        overrides.ShouldBeNone();
    }

    [Fact]
    public void No_code_is_conditional()
    {
        IEnumerable<string> conditional = Repository.Sources.Where(file => Conditional().IsMatch(Repository.Read(file)));

        conditional.ShouldBeNone("one target framework needs no #if");
    }

    [Fact]
    public void No_async_method_has_a_synchronous_twin()
    {
        MethodInfo[] methods = [.. Repository.Packages.SelectMany(package => package.PublicTypes).SelectMany(type => type.GetMethods())];

        MethodInfo[] asyncMethods = [.. methods.Where(method => method.Name.EndsWith("Async", StringComparison.Ordinal))];
        IEnumerable<string> twins = asyncMethods
            .Where(method => method.Name != "DisposeAsync") // `using` and `await using` are two statements, and a type may serve both
            .Where(method => methods.Any(other => other.DeclaringType == method.DeclaringType && other.Name + "Async" == method.Name))
            .Select(method => $"{method.DeclaringType}.{method.Name}");

        asyncMethods.Should().NotBeEmpty();
        twins.ShouldBeNone();
    }

    [Fact]
    public void Folder_project_assembly_namespace_and_package_have_one_name()
    {
        var offenders = new List<string>();
        foreach (Package package in Repository.Packages)
        {
            string[] renamed = [.. package.Project.Descendants().Select(element => element.Name.LocalName)
                .Where(name => name is "AssemblyName" or "RootNamespace" or "PackageId")];
            offenders.AddRange(renamed.Select(name => $"{package.ProjectPath} sets {name}"));
            offenders.AddRange(package.PublicTypes.Where(type => type.Namespace != package.Name).Select(type => $"{type} is not in namespace {package}"));
            offenders.AddRange(package.Sources.Where(file => !Repository.Read(file).Contains($"\nnamespace {package};\n", StringComparison.Ordinal)
                && !Repository.Read(file).StartsWith($"namespace {package};\n", StringComparison.Ordinal)).Select(file => $"{file} does not say namespace {package};"));
            offenders.AddRange(package.Sources.Where(file => Path.GetDirectoryName(file) != package.Folder).Select(file => $"{file} is in a subfolder"));
            package.Sources.Should().NotBeEmpty();
        }

        offenders.ShouldBeNone();
    }

    [Fact]
    public void The_last_segment_of_a_package_is_never_the_name_of_a_public_type_in_it()
    {
        IEnumerable<Type> offenders = Repository.Packages.SelectMany(package => package.PublicTypes
            .Where(type => type.Name.Split('`')[0] == package.Segments[^1]));

        offenders.ShouldBeNone("such a type cannot be named where the namespace is in sight");
    }

    [Fact]
    public void A_leaf_refers_to_no_other_project_and_an_adapter_to_the_one_that_it_adapts()
    {
        Package[] packages = [.. Repository.Packages.Where(package => package.IsLeaf || package.IsAdapter)];

        IEnumerable<string> offenders = packages
            .Where(package => !package.ProjectReferences.SequenceEqual(package.IsLeaf ? [] : [package.Parent]))
            .Select(package => $"{package} refers to [{string.Join(", ", package.ProjectReferences)}]");

        Repository.Leaves.Should().HaveCountGreaterThanOrEqualTo(3);
        offenders.ShouldBeNone();
    }

    [Fact]
    public void No_file_folder_or_type_has_a_name_that_says_nothing()
    {
        IEnumerable<string> types = Repository.Packages.SelectMany(package => package.Assembly.GetTypes()).Select(type => type.FullName!);

        IEnumerable<string> offenders = Repository.Files.Concat(types).Where(path => path.Split('/', '.', '+').Intersect(NamesThatSayNothing).Any());

        offenders.ShouldBeNone();
    }

    [Fact]
    public void Every_package_has_a_readme_a_design_note_and_tests()
    {
        IEnumerable<string> needed = Repository.Packages.SelectMany(package => new[]
        {
            package.ProjectPath, package.ReadmePath, $"{package.Folder}/DESIGN.md", $"tests/{package}.Tests/{package}.Tests.csproj",
        });

        IEnumerable<string> missing = needed.Except(Repository.Files);

        missing.ShouldBeNone();
    }

    [Fact]
    public void Every_leaf_has_a_sample()
    {
        IEnumerable<string> missing = Repository.Leaves.Select(leaf => leaf.SamplePath).Except(Repository.Files);

        missing.ShouldBeNone();
    }

    [Fact]
    public void The_solution_has_every_project_and_no_other()
    {
        string[] projects = [.. Repository.Files.Where(file => file.EndsWith(".csproj", StringComparison.Ordinal))];

        string[] inSolution = [.. SolutionProject().Matches(Repository.Read("Backend.Toolkit.sln")).Select(match => match.Groups[1].Value.Replace('\\', '/'))];

        projects.Except(inSolution).ShouldBeNone("what is not in the solution is neither built nor tested");
        inSolution.Except(projects).ShouldBeNone("what is in the solution exists");
    }

    [Fact]
    public void Every_benchmark_has_published_results()
    {
        string[] benchmarks = [.. Repository.Files.Select(file => BenchmarkProject().Match(file)).Where(match => match.Success).Select(match => match.Groups[1].Value)];

        IEnumerable<string> unpublished = benchmarks.Select(name => $"benchmarks/results/{name}.md").Except(Repository.Files);

        benchmarks.Should().HaveCountGreaterThanOrEqualTo(3);
        unpublished.ShouldBeNone("a number that is not in benchmarks/results cannot be checked");
    }

    [GeneratedRegex(@"^[ \t]*#(if|elif|else)\b", RegexOptions.Multiline)]
    private static partial Regex Conditional();

    [GeneratedRegex(@"^Project\(""[^""]*""\) = ""[^""]*"", ""([^""]+\.csproj)""", RegexOptions.Multiline)]
    private static partial Regex SolutionProject();

    [GeneratedRegex(@"^benchmarks/Backend\.Toolkit\.(.+)\.Benchmarks/[^/]+\.csproj$")]
    private static partial Regex BenchmarkProject();
}
