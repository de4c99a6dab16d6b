// One whole life of an endpoint through the AWS SDK for Go v2; prints one JSON line a step.
// The steps and what must come of them: tests/support/client_life.py.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
	"github.com/aws/smithy-go"
)

const (
	bucket   = "s3://life-outputs"
	patience = 90 * time.Second
	interval = time.Second
)

type facts map[string]any

type life struct {
	name, image, role, url, rows string
	sagemaker                    *sagemaker.Client
	runtime                      *sagemakerruntime.Client
}

var everywhere = context.Background()

func tell(step string, told facts) {
	told["step"] = step
	line, err := json.Marshal(told)
	must(line, err)
	fmt.Println(string(line))
}

// must ends the program: no step may fail but those that say so.
func must[T any](value T, err error) T {
	if err != nil {
		log.Panic(err)
	}
	return value
}

func refused[T any](step string, told facts, _ T, err error) {
	told["code"] = nil
	var fault smithy.APIError
	if errors.As(err, &fault) {
		told["code"], told["message"] = fault.ErrorCode(), fault.ErrorMessage()
	} else if err != nil {
		told["message"] = err.Error()
	}
	told["status"] = status(err)
	tell(step, told)
}

func status(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

func seconds(moment *time.Time) float64 { return float64(moment.UnixMilli()) / 1000 }

func (l life) variant() types.ProductionVariant {
	return types.ProductionVariant{
		VariantName:          aws.String("big"),
		ModelName:            aws.String(l.name),
		InitialInstanceCount: aws.Int32(1),
		InstanceType:         types.ProductionVariantInstanceTypeMlM5Large,
	}
}

func (l life) model() *sagemaker.CreateModelInput {
	return &sagemaker.CreateModelInput{
		ModelName:        aws.String(l.name),
		ExecutionRoleArn: aws.String(l.role),
		PrimaryContainer: &types.ContainerDefinition{
			Image:        aws.String(l.image),
			ModelDataUrl: aws.String(l.url),
			Environment:  map[string]string{"GREETING": "ahoy"},
		},
	}
}

func (l life) config(name string) *sagemaker.CreateEndpointConfigInput {
	big, small := l.variant(), l.variant()
	big.InitialVariantWeight, big.EnableSSMAccess = aws.Float32(2), aws.Bool(false)
	small.VariantName, small.InitialVariantWeight = aws.String("small"), aws.Float32(0.5)
	return &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName:     aws.String(name),
		ProductionVariants:     []types.ProductionVariant{big, small},
		EnableNetworkIsolation: aws.Bool(false),
		Tags:                   []types.Tag{{Key: aws.String("team"), Value: aws.String("cellar")}},
	}
}

type group struct {
	name string
	add  func(*sagemaker.CreateEndpointConfigInput, *types.ProductionVariant)
}

func (l life) groups() []group {
	type request = sagemaker.CreateEndpointConfigInput
	type variant = types.ProductionVariant
	return []group{
		{"data-capture", func(r *request, _ *variant) { r.DataCaptureConfig = dataCapture() }},
		{"kms-key", func(r *request, _ *variant) { r.KmsKeyId = aws.String("1234abcd-12ab-34cd-56ef-1234567890ab") }},
		{"async", func(r *request, _ *variant) { r.AsyncInferenceConfig = asyncInference() }},
		{"explainer", func(r *request, _ *variant) { r.ExplainerConfig = explainer() }},
		{"role", func(r *request, _ *variant) { r.ExecutionRoleArn = aws.String(l.role) }},
		{"vpc", func(r *request, _ *variant) {
			r.VpcConfig = &types.VpcConfig{SecurityGroupIds: []string{"sg-12345678"}, Subnets: []string{"subnet-12345678"}}
		}},
		{"isolation", func(r *request, _ *variant) { r.EnableNetworkIsolation = aws.Bool(true) }},
		{"metrics", func(r *request, _ *variant) {
			r.MetricsConfig = &types.MetricsConfig{
				EnableEnhancedMetrics: aws.Bool(true), MetricPublishFrequencyInSeconds: 60,
			}
		}},
		{"shadow", func(r *request, _ *variant) {
			shadow := l.variant()
			shadow.VariantName, shadow.InitialVariantWeight = aws.String("shadow"), aws.Float32(0.5)
			r.ShadowProductionVariants = []variant{shadow}
		}},
		{"serverless", func(_ *request, v *variant) {
			v.InitialInstanceCount, v.InstanceType = nil, ""
			v.ServerlessConfig = &types.ProductionVariantServerlessConfig{
				MemorySizeInMB: aws.Int32(2048), MaxConcurrency: aws.Int32(5), ProvisionedConcurrency: aws.Int32(1),
			}
		}},
		{"core-dump", func(_ *request, v *variant) {
			v.CoreDumpConfig = &types.ProductionVariantCoreDumpConfig{DestinationS3Uri: aws.String(bucket + "/cores")}
		}},
		{"volume", func(_ *request, v *variant) { v.VolumeSizeInGB = aws.Int32(16) }},
		{"download-timeout", func(_ *request, v *variant) { v.ModelDataDownloadTimeoutInSeconds = aws.Int32(600) }},
		{"startup-timeout", func(_ *request, v *variant) {
			v.ContainerStartupHealthCheckTimeoutInSeconds = aws.Int32(600)
		}},
		{"routing", func(_ *request, v *variant) {
			v.RoutingConfig = &types.ProductionVariantRoutingConfig{
				RoutingStrategy: types.RoutingStrategyLeastOutstandingRequests,
			}
		}},
		{"shell-access", func(_ *request, v *variant) { v.EnableSSMAccess = aws.Bool(true) }},
	}
}

func dataCapture() *types.DataCaptureConfig {
	return &types.DataCaptureConfig{
		EnableCapture:             aws.Bool(true),
		InitialSamplingPercentage: aws.Int32(50),
		DestinationS3Uri:          aws.String(bucket + "/captured"),
		CaptureOptions: []types.CaptureOption{
			{CaptureMode: types.CaptureModeInput}, {CaptureMode: types.CaptureModeOutput},
		},
		CaptureContentTypeHeader: &types.CaptureContentTypeHeader{
			CsvContentTypes: []string{"text/csv"}, JsonContentTypes: []string{"application/json"},
		},
	}
}

func asyncInference() *types.AsyncInferenceConfig {
	return &types.AsyncInferenceConfig{
		ClientConfig: &types.AsyncInferenceClientConfig{MaxConcurrentInvocationsPerInstance: aws.Int32(4)},
		OutputConfig: &types.AsyncInferenceOutputConfig{
			S3OutputPath:  aws.String(bucket + "/answers"),
			S3FailurePath: aws.String(bucket + "/failures"),
			NotificationConfig: &types.AsyncInferenceNotificationConfig{
				SuccessTopic: aws.String("arn:aws:sns:us-east-1:000000000000:success"),
				ErrorTopic:   aws.String("arn:aws:sns:us-east-1:000000000000:error"),
				IncludeInferenceResponseIn: []types.AsyncNotificationTopicTypes{
					types.AsyncNotificationTopicTypesSuccessNotificationTopic,
				},
			},
		},
	}
}

func explainer() *types.ExplainerConfig {
	return &types.ExplainerConfig{ClarifyExplainerConfig: &types.ClarifyExplainerConfig{
		EnableExplanations: aws.String("`true`"),
		InferenceConfig: &types.ClarifyInferenceConfig{
			MaxRecordCount: aws.Int32(10), FeatureHeaders: []string{"alcohol", "ash"},
		},
		ShapConfig: &types.ClarifyShapConfig{
			ShapBaselineConfig: &types.ClarifyShapBaselineConfig{
				MimeType: aws.String("text/csv"), ShapBaseline: aws.String("1,2"),
			},
			NumberOfSamples: aws.Int32(20),
		},
	}}
}

func (l life) models() {
	created := must(l.sagemaker.CreateModel(everywhere, l.model()))
	tell("create-model", facts{"arn": created.ModelArn})
	described := must(l.sagemaker.DescribeModel(everywhere, &sagemaker.DescribeModelInput{ModelName: &l.name}))
	tell("describe-model", facts{
		"name":        described.ModelName,
		"arn":         described.ModelArn,
		"role":        described.ExecutionRoleArn,
		"image":       described.PrimaryContainer.Image,
		"url":         described.PrimaryContainer.ModelDataUrl,
		"environment": described.PrimaryContainer.Environment,
		"created":     seconds(described.CreationTime),
	})
}

func (l life) describeConfig(name string) (*sagemaker.DescribeEndpointConfigOutput, error) {
	return l.sagemaker.DescribeEndpointConfig(
		everywhere, &sagemaker.DescribeEndpointConfigInput{EndpointConfigName: &name})
}

func (l life) configs() {
	for _, suffix := range []string{"", "-2", "-3"} {
		created := must(l.sagemaker.CreateEndpointConfig(everywhere, l.config(l.name+suffix)))
		tell("create-config", facts{"arn": created.EndpointConfigArn})
	}
	described := must(l.describeConfig(l.name))
	variants := []facts{}
	for _, each := range described.ProductionVariants {
		variants = append(variants, facts{
			"name": each.VariantName, "model": each.ModelName, "count": each.InitialInstanceCount,
			"type": each.InstanceType, "weight": each.InitialVariantWeight,
		})
	}
	tell("describe-config", facts{
		"name": described.EndpointConfigName, "arn": described.EndpointConfigArn,
		"created": seconds(described.CreationTime), "variants": variants,
	})
	l.listConfigs()
	for _, each := range l.groups() {
		variant := l.variant()
		request := &sagemaker.CreateEndpointConfigInput{EndpointConfigName: aws.String(l.name + "-" + each.name)}
		each.add(request, &variant)
		request.ProductionVariants = []types.ProductionVariant{variant}
		created, err := l.sagemaker.CreateEndpointConfig(everywhere, request)
		refused("group", facts{"group": each.name}, created, err)
	}
	l.tags(described.EndpointConfigArn)
}

func (l life) listConfigs() {
	paginator := sagemaker.NewListEndpointConfigsPaginator(l.sagemaker, &sagemaker.ListEndpointConfigsInput{
		NameContains: &l.name, MaxResults: aws.Int32(2),
		SortBy: types.EndpointConfigSortKeyName, SortOrder: types.OrderKeyAscending,
	})
	pages := [][]string{}
	for paginator.HasMorePages() {
		names := []string{}
		for _, each := range must(paginator.NextPage(everywhere)).EndpointConfigs {
			names = append(names, *each.EndpointConfigName)
		}
		pages = append(pages, names)
	}
	tell("list-configs", facts{"pages": pages})
}

func (l life) tags(arn *string) {
	listed := func() facts {
		tags := map[string]string{}
		for _, tag := range must(l.sagemaker.ListTags(everywhere, &sagemaker.ListTagsInput{ResourceArn: arn})).Tags {
			tags[*tag.Key] = *tag.Value
		}
		return facts{"tags": tags}
	}
	year := []types.Tag{{Key: aws.String("year"), Value: aws.String("1987")}}
	must(l.sagemaker.AddTags(everywhere, &sagemaker.AddTagsInput{ResourceArn: arn, Tags: year}))
	tell("add-tags", listed())
	must(l.sagemaker.DeleteTags(everywhere, &sagemaker.DeleteTagsInput{ResourceArn: arn, TagKeys: []string{"team"}}))
	tell("delete-tags", listed())
}

func (l life) describe() (*sagemaker.DescribeEndpointOutput, error) {
	return l.sagemaker.DescribeEndpoint(everywhere, &sagemaker.DescribeEndpointInput{EndpointName: &l.name})
}

func (l life) waitInService() {
	waiter := sagemaker.NewEndpointInServiceWaiter(l.sagemaker, func(o *sagemaker.EndpointInServiceWaiterOptions) {
		o.MinDelay, o.MaxDelay = interval, interval
	})
	err := waiter.Wait(everywhere, &sagemaker.DescribeEndpointInput{EndpointName: &l.name}, patience)
	must(waiter, err)
}

func (l life) tellEndpoint(step string) {
	described := must(l.describe())
	variants := []facts{}
	for _, each := range described.ProductionVariants {
		variants = append(variants, facts{
			"name":     each.VariantName,
			"weights":  []*float32{each.CurrentWeight, each.DesiredWeight},
			"counts":   []*int32{each.CurrentInstanceCount, each.DesiredInstanceCount},
			"image":    each.DeployedImages[0].SpecifiedImage,
			"resolved": each.DeployedImages[0].ResolvedImage,
		})
	}
	tell(step, facts{
		"status": described.EndpointStatus, "config": described.EndpointConfigName,
		"created": seconds(described.CreationTime), "modified": seconds(described.LastModifiedTime),
		"variants": variants,
	})
}

func (l life) endpoint() {
	created := must(l.sagemaker.CreateEndpoint(
		everywhere, &sagemaker.CreateEndpointInput{EndpointName: &l.name, EndpointConfigName: &l.name}))
	tell("create-endpoint", facts{"arn": created.EndpointArn})
	tell("describe-new", facts{"status": must(l.describe()).EndpointStatus})
	l.waitInService()
	tell("wait-in-service", facts{"state": "SUCCESS"})
	l.tellEndpoint("describe-endpoint")
	paginator := sagemaker.NewListEndpointsPaginator(
		l.sagemaker, &sagemaker.ListEndpointsInput{NameContains: &l.name, MaxResults: aws.Int32(1)})
	names := []string{}
	for paginator.HasMorePages() {
		for _, each := range must(paginator.NextPage(everywhere)).Endpoints {
			names = append(names, *each.EndpointName+" "+string(each.EndpointStatus))
		}
	}
	tell("list-endpoints", facts{"names": names})
}

func (l life) invocation() *sagemakerruntime.InvokeEndpointInput {
	return &sagemakerruntime.InvokeEndpointInput{
		EndpointName:  &l.name,
		ContentType:   aws.String("text/csv"),
		Accept:        aws.String("application/json"),
		TargetVariant: aws.String("small"),
		Body:          []byte(l.rows),
	}
}

func (l life) invoke() {
	answer := must(l.runtime.InvokeEndpoint(everywhere, l.invocation()))
	tell("invoke", facts{
		"variant": answer.InvokedProductionVariant, "type": answer.ContentType, "body": string(answer.Body),
	})
}

func (l life) stream() {
	answer := must(l.runtime.InvokeEndpointWithResponseStream(
		everywhere, &sagemakerruntime.InvokeEndpointWithResponseStreamInput{
			EndpointName:  &l.name,
			ContentType:   aws.String("text/csv"),
			Accept:        aws.String("application/json"),
			TargetVariant: aws.String("small"),
			Body:          []byte(l.rows),
		}))
	var body []byte
	for event := range answer.GetStream().Events() {
		if part, is := event.(*runtimetypes.ResponseStreamMemberPayloadPart); is {
			body = append(body, part.Value.Bytes...)
		}
	}
	if err := answer.GetStream().Close(); err != nil {
		log.Fatal(err)
	}
	tell("stream", facts{
		"variant": answer.InvokedProductionVariant, "type": answer.ContentType, "body": string(body),
	})
}

func (l life) errors() {
	missing := l.name + "-missing"
	described, err := l.sagemaker.DescribeModel(everywhere, &sagemaker.DescribeModelInput{ModelName: &missing})
	refused("error", facts{"case": "missing-model"}, described, err)
	model, err := l.sagemaker.CreateModel(everywhere, l.model())
	refused("error", facts{"case": "existing-model"}, model, err)
	created, err := l.sagemaker.CreateEndpointConfig(everywhere, l.config(l.name))
	refused("error", facts{"case": "existing-config"}, created, err)
	bad := l.variant()
	bad.InstanceType, bad.InitialVariantWeight = "ml.nonsense", aws.Float32(-1)
	created, err = l.sagemaker.CreateEndpointConfig(everywhere, &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: aws.String("bad_name"), ProductionVariants: []types.ProductionVariant{bad},
	})
	refused("error", facts{"case": "constraints"}, created, err)
	invocation := l.invocation()
	invocation.EndpointName = &missing
	answer, err := l.runtime.InvokeEndpoint(everywhere, invocation)
	refused("error", facts{"case": "missing-endpoint"}, answer, err)
	l.modelError()
	// The first two answers to this request are lost on the way: the SDK sends it again, twice.
	lost := l.name + "-lost"
	created, err = l.sagemaker.CreateEndpointConfig(everywhere, l.config(lost))
	refused("lost", facts{}, created, err)
	tell("kept", facts{"arn": must(l.describeConfig(lost)).EndpointConfigArn})
}

func (l life) modelError() {
	invocation := l.invocation()
	invocation.ContentType = aws.String("application/x-nonsense")
	_, err := l.runtime.InvokeEndpoint(everywhere, invocation)
	var fault *runtimetypes.ModelError
	if errors.As(err, &fault) {
		tell("model-error", facts{
			"code": fault.ErrorCode(), "message": fault.ErrorMessage(), "status": status(err),
			"original": fault.OriginalStatusCode, "text": fault.OriginalMessage, "log": fault.LogStreamArn,
		})
	}
}

func (l life) change() {
	changed := must(l.sagemaker.UpdateEndpointWeightsAndCapacities(
		everywhere, &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
			EndpointName: &l.name,
			DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{
				{VariantName: aws.String("big"), DesiredWeight: aws.Float32(1), DesiredInstanceCount: aws.Int32(2)},
				{VariantName: aws.String("small"), DesiredWeight: aws.Float32(3.5)},
			},
		}))
	tell("update-weights", facts{"arn": changed.EndpointArn})
	l.waitInService()
	l.tellEndpoint("describe-changed")
	updated := must(l.sagemaker.UpdateEndpoint(everywhere, &sagemaker.UpdateEndpointInput{
		EndpointName: &l.name, EndpointConfigName: aws.String(l.name + "-2"),
	}))
	tell("update-endpoint", facts{"arn": updated.EndpointArn})
	l.waitInService()
	l.tellEndpoint("describe-updated")
}

func (l life) end() {
	must(l.sagemaker.DeleteEndpoint(everywhere, &sagemaker.DeleteEndpointInput{EndpointName: &l.name}))
	waiter := sagemaker.NewEndpointDeletedWaiter(l.sagemaker, func(o *sagemaker.EndpointDeletedWaiterOptions) {
		o.MinDelay, o.MaxDelay = interval, interval
	})
	must(waiter, waiter.Wait(everywhere, &sagemaker.DescribeEndpointInput{EndpointName: &l.name}, patience))
	tell("wait-deleted", facts{"state": "SUCCESS"})
	for _, suffix := range []string{"", "-2", "-3", "-lost"} {
		must(l.sagemaker.DeleteEndpointConfig(
			everywhere, &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: aws.String(l.name + suffix)}))
	}
	must(l.sagemaker.DeleteModel(everywhere, &sagemaker.DeleteModelInput{ModelName: &l.name}))
	endpoint, err := l.describe()
	refused("gone", facts{"kind": "endpoint"}, endpoint, err)
	config, err := l.describeConfig(l.name)
	refused("gone", facts{"kind": "config"}, config, err)
	model, err := l.sagemaker.DescribeModel(everywhere, &sagemaker.DescribeModelInput{ModelName: &l.name})
	refused("gone", facts{"kind": "model"}, model, err)
}

func main() {
	settings := must(config.LoadDefaultConfig(everywhere))
	l := life{
		name:      os.Getenv("LIFE_NAME"),
		image:     os.Getenv("LIFE_IMAGE"),
		role:      os.Getenv("LIFE_ROLE"),
		url:       os.Getenv("LIFE_MODEL_DATA"),
		rows:      os.Getenv("LIFE_ROWS"),
		sagemaker: sagemaker.NewFromConfig(settings),
		runtime:   sagemakerruntime.NewFromConfig(settings),
	}
	l.models()
	l.configs()
	l.endpoint()
	l.invoke()
	l.stream()
	l.errors()
	l.change()
	l.end()
}
